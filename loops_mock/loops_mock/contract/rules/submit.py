"""Rules of handing an operation over: it is accepted once, in order, or refused at once."""

from __future__ import annotations

from loops_core.errors import UsageError
from loops_mock.contract.rule import expect, expect_equal, expect_raises, rule
from loops_mock.contract.subject import Subject


@rule(
    "submit.accepted-with-an-id",
    title="A submit is answered 202 with a non-empty operation_id and schema_version 1",
    section="2.3",
    needs={"http"},
)
def _accepted(subject: Subject) -> None:
    run = subject.raw.open_run()
    reply = run.submit("forward", {"data": [subject.raw.datum()]}, key="0123456789abcdef" * 2)
    expect_equal(reply.status_code, 202, "the status of an accepted submit")
    body = reply.json()
    operation_id = body.get("operation_id")
    expect(isinstance(operation_id, str) and operation_id, "operation_id is text", body=body)
    expect_equal(body.get("schema_version", 1), 1, "schema_version")


@rule(
    "submit.repeat-runs-once",
    title="A submit repeated with its Idempotency-Key returns the first operation and runs once",
    section="2.3",
    needs={"http"},
)
def _repeat(subject: Subject) -> None:
    run = subject.raw.open_run()
    data = {"data": [subject.raw.datum()]}
    first = run.accepted("forward_backward", data, key="a" * 32)
    again = run.accepted("forward_backward", data, key="a" * 32)
    expect_equal(again, first, "the operation of a repeated key")
    once = run.done("optim_step", adam_params={"learning_rate": 0.01, "grad_clip_norm": 0})
    other = subject.raw.open_run()
    other.accepted("forward_backward", data)
    alone = other.done("optim_step", adam_params={"learning_rate": 0.01, "grad_clip_norm": 0})
    expect_equal(once["metrics"]["grad_norm"], alone["metrics"]["grad_norm"], "the gradient")


@rule(
    "submit.empty-data-is-refused",
    title="A batch without datums is refused at the call, and changes nothing",
    section="2.3",
)
def _empty(subject: Subject) -> None:
    trainer = subject.trainer()
    expect_raises(UsageError, lambda: trainer.forward_backward([]), "an empty batch")
    trainer.forward_backward(subject.data()).result()


@rule(
    "submit.unknown-loss-is-refused",
    title="An unknown loss_fn is refused at the call with a message that names it",
    section="2.3",
)
def _unknown_loss(subject: Subject) -> None:
    trainer = subject.trainer()
    error = expect_raises(
        UsageError, lambda: trainer.forward(subject.data(), "no_such_loss"), "an unknown loss"
    )
    expect("no_such_loss" in str(error), "the message names the loss", message=str(error))
