"""Rules of a trainer's small endpoints: health and the published version."""

from __future__ import annotations

from loops_mock.contract.answers import ok
from loops_mock.contract.rule import expect, expect_equal, rule
from loops_mock.contract.subject import Subject
from loops_mock.contract.wire import WireRun


def _version(run: WireRun) -> int:
    return ok(run.get("/policy_version"))["policy_version"]


@rule(
    "health.ready-is-200",
    title="`GET /health?base_model=` is 200 once a trainer is ready, with and without the query",
    section="2.8",
    needs={"http"},
)
def _ready(subject: Subject) -> None:
    run = subject.raw.open_run()
    expect_equal(run.get("/health").status_code, 200, "the status without a query")
    reply = run.get("/health", params={"base_model": run.base_model})
    expect_equal(reply.status_code, 200, "the status with the run's base model")


@rule(
    "health.other-model-is-not-200",
    title="`GET /health?base_model=` of another model than the trainer's is no 200",
    section="2.8",
    needs={"http"},
)
def _other_model(subject: Subject) -> None:
    status = subject.raw.open_run().get("/health", params={"base_model": "another"}).status_code
    expect(status != 200, "another model's health is no 200", status=status)


@rule(
    "health.version-starts-at-0",
    title="`GET /policy_version` of a fresh run is 0",
    section="6.4",
    needs={"http"},
)
def _starts(subject: Subject) -> None:
    expect_equal(_version(subject.raw.open_run()), 0, "policy_version")


@rule(
    "health.version-is-the-published-one",
    title="`GET /policy_version` is the version that the last publish gave",
    section="6.4",
    needs={"http"},
)
def _published(subject: Subject) -> None:
    run = subject.raw.open_run()
    for name in ("one", "two"):
        version = run.done("save_weights_for_sampler", name=name, bump_version=True)["version"]
        expect_equal(_version(run), version, "policy_version after the publish")


@rule(
    "health.version-never-falls",
    title="The published version never falls: not by a load, not by another init_trainer_server",
    section="6.4",
    needs={"http"},
)
def _never_falls(subject: Subject) -> None:
    run = subject.raw.open_run()
    path = run.done("save_state", name="start")["path"]
    run.done("save_weights_for_sampler", name="one", bump_version=True)
    before = _version(run)
    run.done("load_state", path=path)
    expect(_version(run) >= before, "it does not fall by a load", before=before, now=_version(run))
    run.done("init_trainer_server", lora_rank=4)
    expect(_version(run) >= before, "it does not fall by an init", before=before, now=_version(run))
