"""Rules of samplers as things that are created, found and asked how they are."""

from __future__ import annotations

from loops_mock.contract.answers import Json, offered, ok
from loops_mock.contract.rule import NotOffered, expect, expect_equal, rule
from loops_mock.contract.subject import Subject
from loops_mock.contract.wire import WireRun

_SAMPLERS = "/v1/loops/samplers"


def _paired(subject: Subject) -> tuple[WireRun, Json]:
    run = subject.raw.open_run()
    return run, subject.raw.open_sampler(run.record["session_id"], run_id=run.id)


@rule(
    "samplers.create-answers-with-the-sampler",
    title="`POST samplers` of a base model gives `sampler` with id and base_url",
    section="1.4",
    needs={"http"},
)
def _create(subject: Subject) -> None:
    session_id = subject.raw.open_session()
    sampler = subject.raw.open_sampler(session_id, base_model=subject.base_model)
    for name in ("id", "base_url"):
        value = sampler.get(name)
        expect(isinstance(value, str) and value, f"sampler.{name} is text", sampler=sampler)
    expect_equal(sampler.get("base_model"), subject.base_model, "the sampler's base model")


@rule(
    "samplers.paired-is-one-per-run",
    title="Creating a run's paired sampler again gives the same sampler",
    section="1.4",
    needs={"http"},
)
def _idempotent(subject: Subject) -> None:
    run, first = _paired(subject)
    again = subject.raw.open_sampler(run.record["session_id"], run_id=run.id)
    expect_equal(again["id"], first["id"], "the sampler's id")
    expect_equal(again["base_url"], first["base_url"], "the sampler's address")


@rule(
    "samplers.dedicated-tells-its-status",
    title="A sampler with model_id has a deployment_id, and its deployment says ACTIVE when ready",
    section="3.6",
    needs={"http"},
)
def _dedicated(subject: Subject) -> None:
    session_id = subject.raw.open_session()
    sampler = subject.raw.open_sampler(session_id, base_model=subject.base_model)
    model_id, deployment_id = sampler.get("model_id"), sampler.get("deployment_id")
    if model_id is None:
        raise NotOffered("dedicated samplers")
    expect(isinstance(deployment_id, str), "deployment_id is text", sampler=sampler)
    found = ok(subject.raw.get(f"/v1/models/{model_id}/deployments/{deployment_id}"))
    expect_equal(found.get("status"), "ACTIVE", "the deployment's status")


@rule(
    "samplers.one-source-exactly",
    title="A sampler needs exactly one of run_id, base_model and model_path; else it is a 4xx",
    section="1.4",
    needs={"http"},
)
def _one_source(subject: Subject) -> None:
    session_id = subject.raw.open_session()
    both = {"base_model": subject.base_model, "model_path": "bt://loops:x/sampler_weights/y"}
    for source in ({}, both):
        status = subject.raw.post(_SAMPLERS, {"session_id": session_id, **source}).status_code
        expect(400 <= status < 500, f"a sampler of {sorted(source)} is a 4xx", status=status)


_NOWHERE: dict[str, tuple[str, Json]] = {
    "model": ("a base model", {"base_model": "no-such-model"}),
    "checkpoint": ("a checkpoint", {"model_path": "bt://loops:nobody/sampler_weights/nothing"}),
    "run": ("a run", {"run_id": "no-such-run"}),
}


def _refuse(name: str, what: str, source: Json) -> None:
    @rule(
        f"samplers.unknown-{name}-is-refused",
        title=f"A sampler of {what} that is none is a 4xx",
        section="1.4",
        needs={"http"},
    )
    def _check(subject: Subject) -> None:
        body = {"session_id": subject.raw.open_session(), **source}
        status = subject.raw.post(_SAMPLERS, body).status_code
        expect(400 <= status < 500, f"a sampler of {source} is a 4xx", status=status)


for _name, (_what, _source) in _NOWHERE.items():
    _refuse(_name, _what, _source)


@rule(
    "samplers.unknown-session-is-refused",
    title="A sampler in a session that is none is a 4xx",
    section="1.4",
    needs={"http"},
)
def _unknown_session(subject: Subject) -> None:
    body = {"session_id": "no-such-session", "base_model": subject.base_model}
    status = subject.raw.post(_SAMPLERS, body).status_code
    expect(400 <= status < 500, "an unknown session is a 4xx", status=status)


@rule(
    "samplers.of-a-checkpoint",
    title="A sampler of a published checkpoint's path samples from it",
    section="1.4",
    needs={"http"},
)
def _checkpoint(subject: Subject) -> None:
    run = subject.raw.open_run()
    path = run.done("save_weights_for_sampler", name="shared", bump_version=True)["path"]
    sampler = subject.raw.open_sampler(run.record["session_id"], model_path=path)
    headers = {"X-Sampler-Id": sampler["id"], "X-Checkpoint-Path": path}
    expect_equal(len(ok(subject.raw.sample(sampler, headers=headers))["choices"]), 1, "choices")


@rule(
    "samplers.wake-is-taken",
    title="`POST {base_url}/wake` is answered 200 or 202",
    section="3.8",
    needs={"http"},
)
def _wake(subject: Subject) -> None:
    _, sampler = _paired(subject)
    status = subject.raw.post(f"{sampler['base_url']}/wake").status_code
    expect(status in (200, 202), "wake is 200 or 202", status=status)


@rule(
    "samplers.models-name-the-base",
    title="`GET {base_url}/v1/models` has one entry without parent, the base model",
    section="3.8",
    needs={"http"},
)
def _models(subject: Subject) -> None:
    _, sampler = _paired(subject)
    models = ok(subject.raw.get(f"{sampler['base_url']}/v1/models"))["data"]
    bases = [model["id"] for model in models if model.get("parent") is None]
    expect_equal(bases, [subject.base_model], "the entries without parent")


@rule(
    "samplers.models-name-the-adapter",
    title="After a publish `GET {base_url}/v1/models` has an entry with the base model as parent",
    section="3.8",
    needs={"http"},
)
def _adapter(subject: Subject) -> None:
    run, sampler = _paired(subject)
    run.done("save_weights_for_sampler", name="first", bump_version=True)
    models = ok(subject.raw.get(f"{sampler['base_url']}/v1/models"))["data"]
    parents = [model.get("parent") for model in models if model.get("parent") is not None]
    expect_equal(parents, [subject.base_model], "the parents of adapters")


@rule(
    "samplers.tell-the-published-version",
    title="`GET {base_url}/trainers_policy_version` gives policy_version, raised by a publish",
    section="3.8",
    needs={"http"},
)
def _version(subject: Subject) -> None:
    run, sampler = _paired(subject)
    url = f"{sampler['base_url']}/trainers_policy_version"
    before = ok(subject.raw.get(url))["policy_version"]
    expect(before is None or before == 0, "nothing is published yet", policy_version=before)
    version = run.done("save_weights_for_sampler", name="first", bump_version=True)["version"]
    expect_equal(ok(subject.raw.get(url))["policy_version"], version, "the sampler's version")


@rule(
    "samplers.can-be-read",
    title="`GET samplers/{id}` and `GET samplers` give the sampler; 404 for one that is none",
    section="1.6",
    needs={"http"},
)
def _read(subject: Subject) -> None:
    _, sampler = _paired(subject)
    reply = offered(subject.raw.get(f"{_SAMPLERS}/{sampler['id']}"), "reading a sampler")
    expect_equal(ok(reply)["sampler"]["base_url"], sampler["base_url"], "its address")
    listed = ok(subject.raw.get(_SAMPLERS))["samplers"]
    expect(sampler["id"] in [each["id"] for each in listed], "it is listed", num=len(listed))
    missing = subject.raw.get(f"{_SAMPLERS}/no-such-sampler").status_code
    expect_equal(missing, 404, "the status of an unknown sampler")


@rule(
    "samplers.stop-with-their-run",
    title="The paired sampler of a deactivated run is no longer ACTIVE",
    section="1.6",
    needs={"http"},
)
def _stop(subject: Subject) -> None:
    run, sampler = _paired(subject)
    if sampler.get("model_id") is None:
        raise NotOffered("dedicated samplers")
    offered(subject.raw.post(f"/v1/loops/runs/{run.id}/deactivate"), "deactivating a run")
    url = f"/v1/models/{sampler['model_id']}/deployments/{sampler['deployment_id']}"
    status = ok(subject.raw.get(url)).get("status")
    expect(status != "ACTIVE", "the sampler has stopped", status=status)
