"""Rules of addresses, keys and errors: what holds for every request."""

from __future__ import annotations

from loops_mock.contract.answers import ok, reason_of
from loops_mock.contract.rule import NotOffered, expect, expect_equal, rule
from loops_mock.contract.subject import Subject

_ANY = "/v1/loops/capabilities"


def _key(subject: Subject) -> str:
    if subject.api_key is None:
        raise NotOffered("the service is asked without a key")
    return subject.api_key


def _asks_for_keys(subject: Subject) -> str:
    key = _key(subject)
    if subject.raw.get(_ANY, with_key=False).is_success:
        raise NotOffered("the service asks for no key")
    return key


@rule(
    "addressing.api-key-scheme",
    title="`Authorization: Api-Key KEY` is taken",
    section="1.1",
    needs={"http"},
)
def _api_key(subject: Subject) -> None:
    header = {"Authorization": f"Api-Key {_key(subject)}"}
    ok(subject.raw.get(_ANY, headers=header, with_key=False))


@rule(
    "addressing.bearer-scheme",
    title="`Authorization: Bearer KEY` is taken too",
    section="1.1",
    needs={"http"},
)
def _bearer(subject: Subject) -> None:
    header = {"Authorization": f"Bearer {_key(subject)}"}
    ok(subject.raw.get(_ANY, headers=header, with_key=False))


@rule(
    "addressing.no-key-is-refused",
    title="A service that asks for keys answers 401 or 403 without one, on every room",
    section="1.1",
    needs={"http"},
)
def _no_key(subject: Subject) -> None:
    _asks_for_keys(subject)
    run = subject.raw.open_run()
    sampler = subject.raw.open_sampler(run.record["session_id"], run_id=run.id)
    for method, url in (
        ("POST", "/v1/loops/sessions"),
        ("GET", "/v1/loops/capabilities"),
        ("POST", f"{run.url}/forward"),
        ("GET", f"{run.url}/operations/x"),
        ("POST", f"{sampler['base_url']}/sample"),
    ):
        reply = subject.raw.request(method, url, body={}, with_key=False)
        expect(
            reply.status_code in (401, 403),
            f"{method} {url} without a key is 401 or 403",
            status=reply.status_code,
        )


@rule(
    "addressing.wrong-key-is-refused",
    title="A key that is not known is answered 401 or 403, with a reason that does not repeat it",
    section="1.1",
    needs={"http"},
)
def _wrong_key(subject: Subject) -> None:
    _asks_for_keys(subject)
    header = {"Authorization": "Api-Key not-a-key-of-anybody"}
    reply = subject.raw.get(_ANY, headers=header, with_key=False)
    expect(reply.status_code in (401, 403), "a wrong key is refused", status=reply.status_code)
    reason_of(reply)
    expect("not-a-key-of-anybody" not in reply.text, "keys are not repeated", body=reply.text)


@rule(
    "addressing.unknown-path-says-why",
    title="A path that is none is a 4xx whose JSON says why",
    section="1.1",
    needs={"http"},
)
def _unknown_path(subject: Subject) -> None:
    reply = subject.raw.get("/v1/loops/no-such-thing")
    expect(400 <= reply.status_code < 500, "an unknown path is a 4xx", status=reply.status_code)
    reason_of(reply)


@rule(
    "addressing.wrong-method-is-4xx",
    title="A method that a path does not have is 405, or another 4xx",
    section="1.1",
    needs={"http"},
)
def _wrong_method(subject: Subject) -> None:
    for method, path in (("DELETE", "/v1/loops/sessions"), ("PUT", _ANY)):
        status = subject.raw.request(method, path).status_code
        expect(400 <= status < 500, f"{method} {path} is a 4xx", status=status)


@rule(
    "addressing.answers-are-json",
    title="Answers with a body are JSON and say so",
    section="1.1",
    needs={"http"},
)
def _json(subject: Subject) -> None:
    for path in (_ANY, "/v1/loops/no-such-thing"):
        reply = subject.raw.get(path)
        media_type = reply.headers.get("content-type", "").partition(";")[0]
        expect_equal(media_type, "application/json", f"the content type of {path}")
        reply.json()


@rule(
    "addressing.tracing-headers-are-taken",
    title="`traceparent`, `baggage` and headers that nobody knows change nothing",
    section="2.1",
    needs={"http"},
)
def _tracing(subject: Subject) -> None:
    headers = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "baggage": "loops.sdk.version=0.32.0,op_type=forward",
        "X-Something-New": "1",
    }
    ok(subject.raw.get(_ANY, headers=headers))


@rule(
    "addressing.unknown-fields-are-ignored",
    title="Body fields and query fields that nobody knows are ignored",
    section="1.1",
    needs={"http"},
)
def _unknown_fields(subject: Subject) -> None:
    ok(subject.raw.create_trainer(something_new={"deep": [1]}))
    run = subject.raw.open_run()
    run.done("forward", data=[subject.raw.datum()], something_new=[1, {"a": None}])


@rule(
    "addressing.ids-are-percent-encoded",
    title="Ids in paths are percent-encoded: an encoded slash does not lead elsewhere",
    section="2.6",
    needs={"http"},
)
def _encoded(subject: Subject) -> None:
    run = subject.raw.open_run()
    reply = subject.raw.get(f"{run.url}/operations/..%2Fhealth", headers={"X-Run-Id": run.id})
    expect_equal(reply.status_code, 404, "the status of an operation called '../health'")


@rule(
    "addressing.teams-are-listed",
    title="`GET /v1/teams` lists the caller's teams with id and name",
    section="1.2",
    needs={"http"},
)
def _teams(subject: Subject) -> None:
    teams = ok(subject.raw.get("/v1/teams")).get("teams")
    expect(isinstance(teams, list), "teams is a list", teams=teams)
    for team in teams or ():
        expect(
            isinstance(team.get("id"), str) and isinstance(team.get("name"), str),
            "a team has id and name",
            team=team,
        )


@rule(
    "addressing.creates-below-a-team",
    title="Sessions, trainers and samplers can be created below `/v1/teams/{id}/loops`",
    section="1.1",
    needs={"http"},
)
def _team_root(subject: Subject) -> None:
    teams = ok(subject.raw.get("/v1/teams"))["teams"]
    if not teams:
        raise NotOffered("the caller has no team")
    root = f"/v1/teams/{teams[0]['id']}/loops"
    session_id = ok(subject.raw.post(f"{root}/sessions"))["session"]["id"]
    body = {"session_id": session_id, "base_model": subject.base_model, "lora_rank": 4}
    run_id = ok(subject.raw.post(f"{root}/trainers", body))["run"]["id"]
    subject.log.run_ids.append(run_id)
    ok(subject.raw.post(f"{root}/samplers", {"session_id": session_id, "run_id": run_id}))
