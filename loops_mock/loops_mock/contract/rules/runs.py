"""Rules of runs: creating trainers, reading and ending them."""

from __future__ import annotations

from datetime import datetime

from loops_mock.contract.answers import Json, offered, ok, reason_of
from loops_mock.contract.rule import expect, expect_equal, rule
from loops_mock.contract.subject import Subject
from loops_mock.contract.wire import WireRun

_TRAINERS = "/v1/loops/trainers"


def _is_4xx(subject: Subject, body: Json, what: str, *, naming: str = "") -> None:
    reply = subject.raw.post(_TRAINERS, body)
    expect(400 <= reply.status_code < 500, f"{what} is a 4xx", status=reply.status_code)
    reason = reason_of(reply)
    expect(naming in reason, f"the refusal of {what} names {naming!r}", reason=reason)


@rule(
    "runs.create-answers-with-the-run",
    title="`POST trainers` gives `run` with id, base_model, base_url and deployment_id",
    section="1.3",
    needs={"http"},
)
def _create(subject: Subject) -> None:
    run = ok(subject.raw.create_trainer()).get("run", {})
    for name in ("id", "base_model", "base_url"):
        expect(isinstance(run.get(name), str) and run[name], f"run.{name} is text", run=run)
    deployment = run.get("deployment_id")
    expect(
        deployment is None or (isinstance(deployment, str) and deployment),
        "run.deployment_id is text, or null for a trainer behind a queue",
        run=run,
    )


@rule(
    "runs.base-url-answers",
    title="`run.base_url` is an absolute URL below which the trainer answers",
    section="1.3",
    needs={"http"},
)
def _base_url(subject: Subject) -> None:
    run = WireRun(subject.raw, ok(subject.raw.create_trainer())["run"])
    expect(run.url.startswith(("http://", "https://")), "base_url is absolute", base_url=run.url)
    run.wait_ready()


@rule(
    "runs.ids-are-unique",
    title="Each trainer is a run of its own, also within one session",
    section="1.3",
    needs={"http"},
)
def _unique(subject: Subject) -> None:
    session_id = subject.raw.open_session()
    runs = [ok(subject.raw.create_trainer(session_id=session_id))["run"] for _ in range(2)]
    expect(runs[0]["id"] != runs[1]["id"], "two runs have two ids", runs=runs)


@rule(
    "runs.defaults-are-taken",
    title="A trainer can be created with session_id and base_model alone",
    section="1.3",
    needs={"http"},
)
def _defaults(subject: Subject) -> None:
    body = {"session_id": subject.raw.open_session(), "base_model": subject.base_model}
    subject.log.run_ids.append(ok(subject.raw.post(_TRAINERS, body))["run"]["id"])


@rule(
    "runs.unknown-session-is-refused",
    title="A trainer in a session that is none is a 4xx",
    section="1.3",
    needs={"http"},
)
def _unknown_session(subject: Subject) -> None:
    body = {"session_id": "no-such-session", "base_model": subject.base_model, "lora_rank": 4}
    _is_4xx(subject, body, "an unknown session", naming="session")


@rule(
    "runs.unknown-model-is-refused",
    title="A trainer of a base model that is none is a 4xx that names it",
    section="1.3",
    needs={"http"},
)
def _unknown_model(subject: Subject) -> None:
    body = {"session_id": subject.raw.open_session(), "base_model": "no-such-model"}
    _is_4xx(subject, {**body, "lora_rank": 4}, "an unknown model", naming="no-such-model")


_WRONG: dict[str, tuple[str, Json, str]] = {
    "rank-zero": ("lora_rank 0", {"lora_rank": 0}, "lora_rank"),
    "rank-of-text": ("a lora_rank that is text", {"lora_rank": "many"}, "lora_rank"),
    "replicas-zero": ("replicas 0", {"replicas": 0}, "replicas"),
    "long-name": ("a name of 256 characters", {"name": "n" * 256}, "name"),
    "empty-name": ("an empty name", {"name": ""}, "name"),
    "max-seq-len-zero": ("max_seq_len 0", {"max_seq_len": 0}, "max_seq_len"),
}


def _refuse(name: str, what: str, field: Json, naming: str) -> None:
    @rule(
        f"runs.{name}-is-refused",
        title=f"Creating a trainer with {what} is a 4xx that names the field",
        section="1.3",
        needs={"http"},
    )
    def _check(subject: Subject) -> None:
        body = {"session_id": subject.raw.open_session(), "base_model": subject.base_model}
        _is_4xx(subject, {**body, "lora_rank": 4, **field}, what, naming=naming)


for _name, (_what, _field, _naming) in _WRONG.items():
    _refuse(_name, _what, _field, _naming)


@rule(
    "runs.unknown-checkpoint-is-refused",
    title="A trainer built from a checkpoint that is none is a 4xx",
    section="1.3",
    needs={"http"},
)
def _unknown_checkpoint(subject: Subject) -> None:
    body = {"session_id": subject.raw.open_session(), "base_model": subject.base_model}
    path = "bt://loops:nobody/weights/nothing"
    _is_4xx(subject, {**body, "lora_rank": 4, "path": path}, "an unknown checkpoint")


@rule(
    "runs.deployment-has-a-status",
    title="`GET deployments/{id}` of a dedicated trainer gives `deployment.status.name`",
    section="1.2",
    needs={"http"},
)
def _deployment(subject: Subject) -> None:
    run = subject.raw.open_run()
    deployment_id = run.record.get("deployment_id")
    if deployment_id is None:
        return
    found = ok(subject.raw.get(f"/v1/loops/deployments/{deployment_id}"))["deployment"]
    name = found.get("status", {}).get("name")
    expect_equal(name, "RUNNING", "the status of a trainer that answers")


@rule(
    "runs.can-be-read",
    title="`GET runs/{id}` and `GET runs` give the run with the time at which it was made",
    section="1.6",
    needs={"http"},
)
def _read(subject: Subject) -> None:
    run = subject.raw.open_run()
    found = ok(offered(subject.raw.get(f"/v1/loops/runs/{run.id}"), "reading a run"))["run"]
    expect_equal(found["base_url"].rstrip("/"), run.url, "the run's base_url")
    expect_equal(found["base_model"], run.base_model, "the run's base_model")
    made = datetime.fromisoformat(found["created_at"])
    expect(made.tzinfo is not None, "created_at has a zone", created_at=found["created_at"])
    listed = ok(subject.raw.get("/v1/loops/runs"))["runs"]
    expect(run.id in [each["id"] for each in listed], "the run is listed", runs=len(listed))


@rule(
    "runs.unknown-run-is-404",
    title="Reading a run that is none is 404",
    section="1.6",
    needs={"http"},
)
def _unknown_run(subject: Subject) -> None:
    run = subject.raw.open_run()
    offered(subject.raw.get(f"/v1/loops/runs/{run.id}"), "reading a run")
    missing = subject.raw.get("/v1/loops/runs/no-such-run")
    expect_equal(missing.status_code, 404, "the status of an unknown run")


@rule(
    "runs.deactivation-ends-a-run",
    title="A deactivated run is INACTIVE, takes no operation, and can be deactivated again",
    section="1.6",
    needs={"http"},
)
def _deactivate(subject: Subject) -> None:
    run = subject.raw.open_run()
    url = f"/v1/loops/runs/{run.id}/deactivate"
    ended = ok(offered(subject.raw.post(url), "deactivating a run"))["run"]
    expect_equal(ended["status"]["name"], "INACTIVE", "the status of the run")
    ok(subject.raw.post(url))
    late = run.submit("forward", {"data": [subject.raw.datum()]})
    expect(late.status_code >= 400, "an ended run takes no operation", status=late.status_code)


@rule(
    "runs.checkpoints-outlive-the-run",
    title="The checkpoints of a deactivated run are still listed, and can be loaded",
    section="1.6",
    needs={"http"},
)
def _outlive(subject: Subject) -> None:
    run = subject.raw.open_run()
    path = run.done("save_state", name="kept")["path"]
    offered(subject.raw.post(f"/v1/loops/runs/{run.id}/deactivate"), "deactivating a run")
    found = ok(subject.raw.get("/v1/loops/checkpoints", params={"checkpoint_path": path}))
    expect_equal(len(found["checkpoints"]), 1, "the number of checkpoints at the path")
    subject.raw.open_run().done("load_state", path=path)


@rule(
    "runs.operations-are-isolated",
    title="A run's operations are unknown to another run's trainer",
    section="6.1",
    needs={"http"},
)
def _isolated(subject: Subject) -> None:
    first, second = subject.raw.open_run(), subject.raw.open_run()
    operation_id = first.accepted("forward", {"data": [subject.raw.datum()]})
    first.ended(operation_id)
    expect_equal(second.poll(operation_id).status_code, 404, "the status at the other run")


@rule(
    "runs.keys-are-a-runs-own",
    title="An Idempotency-Key of one run means nothing to another",
    section="6.1",
    needs={"http"},
)
def _keys(subject: Subject) -> None:
    first, second = subject.raw.open_run(), subject.raw.open_run()
    first.accepted("forward", {"data": [subject.raw.datum()]}, key="same-key")
    reply = second.submit("save_state", {"name": "other"}, key="same-key")
    expect(reply.is_success, "the other run takes it", status=reply.status_code, body=reply.text)
    expect_equal(second.ended(reply.json()["operation_id"])["status"], "done", "its status")
