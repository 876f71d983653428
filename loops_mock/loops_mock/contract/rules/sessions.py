"""Rules of sessions and of what a service says it offers."""

from __future__ import annotations

from loops_mock.contract.answers import offered, ok
from loops_mock.contract.rule import expect, expect_equal, rule
from loops_mock.contract.subject import Subject


@rule(
    "sessions.created-without-a-body",
    title="`POST sessions` without a body gives `session.id`, a non-empty text",
    section="1.2",
    needs={"http"},
)
def _created(subject: Subject) -> None:
    session = ok(subject.raw.post("/v1/loops/sessions")).get("session", {})
    expect(isinstance(session.get("id"), str) and session["id"], "session.id", session=session)


@rule(
    "sessions.each-create-is-new",
    title="Each create without a key makes a session of its own",
    section="1.2",
    needs={"http"},
)
def _new(subject: Subject) -> None:
    ids = {subject.raw.open_session() for _ in range(3)}
    expect_equal(len(ids), 3, "the number of sessions")


@rule(
    "sessions.success-is-200",
    title="The control plane answers success with 200",
    section="1.1",
    needs={"http"},
)
def _status(subject: Subject) -> None:
    expect_equal(subject.raw.post("/v1/loops/sessions").status_code, 200, "a create's status")
    expect_equal(subject.raw.get("/v1/loops/capabilities").status_code, 200, "a read's status")
    expect_equal(subject.raw.create_trainer().status_code, 200, "the status of a new trainer")


@rule(
    "sessions.can-be-read",
    title="`GET sessions/{id}` gives the session, and 404 for one that is none",
    section="1.6",
    needs={"http"},
)
def _read(subject: Subject) -> None:
    session_id = subject.raw.open_session()
    reply = offered(subject.raw.get(f"/v1/loops/sessions/{session_id}"), "reading a session")
    expect_equal(ok(reply)["session"]["id"], session_id, "the session's id")
    missing = subject.raw.get("/v1/loops/sessions/no-such-session")
    expect_equal(missing.status_code, 404, "the status of an unknown session")


@rule(
    "sessions.capabilities-list-models",
    title="`GET capabilities` lists `supported_models[].model_name` with `max_context_length`",
    section="1.2",
    needs={"http"},
)
def _capabilities(subject: Subject) -> None:
    models = ok(subject.raw.get("/v1/loops/capabilities")).get("supported_models", [])
    names: list[object] = []
    for model in models:
        names.append(model.get("model_name"))
        longest = model.get("max_context_length")
        is_length = longest is None or (isinstance(longest, int) and longest > 0)
        expect(is_length, "max_context_length is a positive whole number or null", model=model)
    expect(subject.base_model in names, "the base model is listed", models=models)
