"""Rules of handing an operation over: it is accepted once, in order, or refused at once."""

from __future__ import annotations

from loops_core.errors import UsageError
from loops_mock.contract.answers import Json
from loops_mock.contract.rule import expect, expect_equal, expect_raises, rule
from loops_mock.contract.subject import Subject
from loops_mock.contract.wire import WireRun

_ADAM: Json = {"learning_rate": 0.01, "grad_clip_norm": 0.0}


def _grad_norm(run: WireRun) -> float:
    return run.done("optim_step", adam_params=_ADAM)["metrics"]["grad_norm"]


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
    other = subject.raw.open_run()
    other.accepted("forward_backward", data)
    expect_equal(_grad_norm(run), _grad_norm(other), "the gradient of a repeated batch")


@rule(
    "submit.repeat-after-the-end-runs-once",
    title="A submit repeated after its operation has ended returns that operation",
    section="2.3",
    needs={"http"},
)
def _repeat_late(subject: Subject) -> None:
    run = subject.raw.open_run()
    run.accepted("forward_backward", {"data": [subject.raw.datum()]})
    body = {"adam_params": _ADAM}
    first = run.accepted("optim_step", body, key="b" * 32)
    step = run.ended(first)
    expect_equal(run.accepted("optim_step", body, key="b" * 32), first, "the operation")
    expect_equal(run.ended(first), step, "the result of a repeated optim_step")


@rule(
    "submit.other-body-same-key-is-refused",
    title="A key that comes again with another body is refused, and the body does not run",
    section="2.3",
    needs={"http"},
)
def _other_body(subject: Subject) -> None:
    run = subject.raw.open_run()
    run.accepted("forward_backward", {"data": [subject.raw.datum()]}, key="c" * 32)
    reply = run.submit("forward_backward", {"data": [subject.raw.datum()] * 2}, key="c" * 32)
    expect(
        reply.status_code in (409, 422), "it is refused with 409 or 422", status=reply.status_code
    )
    _grad_norm(run)


@rule(
    "submit.keyless-is-accepted",
    title="A submit without Idempotency-Key is accepted; twice it is two operations",
    section="2.3",
    needs={"http"},
)
def _keyless(subject: Subject) -> None:
    run = subject.raw.open_run()
    data = {"data": [subject.raw.datum()]}
    expect(run.accepted("forward", data) != run.accepted("forward", data), "two operations")


@rule(
    "submit.only-data-is-needed",
    title="seq_id, run_id, model, loss_fn, loss_fn_config and top_k_logprobs may be left out",
    section="2.2",
    needs={"http"},
)
def _only_data(subject: Subject) -> None:
    run = subject.raw.open_run()
    reply = subject.raw.post(f"{run.url}/forward", {"data": [subject.raw.datum()]})
    expect_equal(reply.status_code, 202, "the status of the bare submit")
    expect_equal(run.ended(reply.json()["operation_id"])["status"], "done", "its status")


@rule(
    "submit.full-body-is-taken",
    title="A forward_backward with every field that published clients send is taken",
    section="2.2",
    needs={"http"},
)
def _full_body(subject: Subject) -> None:
    result = subject.raw.open_run().done(
        "forward_backward",
        data=[{**subject.raw.datum(), "routed_experts_ref": None}],
        loss_fn="cross_entropy",
        loss_fn_config=None,
        top_k_logprobs=0,
    )
    expect(result["loss"] > 0, "the loss of a random text is positive", loss=result["loss"])


@rule(
    "submit.old-name-of-the-run",
    title="Bodies may call the run trainer_server_id, as older clients do",
    section="2.2",
    needs={"http"},
)
def _old_name(subject: Subject) -> None:
    run = subject.raw.open_run()
    body = {"name": "old", "trainer_server_id": run.id}
    reply = subject.raw.post(f"{run.url}/save_state", body)
    expect_equal(reply.status_code, 202, "the status of a submit of an older client")
    expect_equal(run.ended(reply.json()["operation_id"])["status"], "done", "its status")


@rule(
    "submit.order-is-arrival",
    title="Operations queued without waiting run in the order in which they arrived",
    section="2.4",
    needs={"http"},
)
def _order(subject: Subject) -> None:
    run = subject.raw.open_run()
    steps: list[str] = []
    for _ in range(3):
        run.accepted("forward_backward", {"data": [subject.raw.datum()]})
        steps.append(run.accepted("optim_step", {"adam_params": _ADAM}))
    seen = [run.ended(step)["result"]["metrics"]["step"] for step in steps]
    expect_equal(seen, [1, 2, 3], "the steps, by order of arrival")


@rule(
    "submit.seq-id-is-no-order",
    title="Gaps and repetitions of seq_id, and a count that starts again at 1, hold nothing up",
    section="2.4",
    needs={"http"},
)
def _seq_id(subject: Subject) -> None:
    run = subject.raw.open_run()
    ids = [
        run.accepted("forward", {"data": [subject.raw.datum()], "seq_id": number})
        for number in (7, 3, 3, 1)
    ]
    expect_equal([run.ended(each)["status"] for each in ids], ["done"] * 4, "their statuses")


@rule(
    "submit.failure-stays-alone",
    title="A failed operation leaves the ones behind it and the trainer's state alone",
    section="2.4",
    needs={"http"},
)
def _failure(subject: Subject) -> None:
    run = subject.raw.open_run()
    data = {"data": [subject.raw.datum()]}
    failed = run.accepted("load_state", {"path": f"bt://loops:{run.id}/weights/nowhere"})
    after = run.accepted("forward_backward", data)
    expect_equal(run.ended(failed)["status"], "error", "loading what is not there")
    expect_equal(run.ended(after)["status"], "done", "the operation behind it")
    other = subject.raw.open_run()
    other.accepted("forward_backward", data)
    expect_equal(_grad_norm(run), _grad_norm(other), "the gradient after a failed operation")


@rule(
    "submit.refusal-changes-nothing",
    title="A refused submit leaves the gradients and the trainer's state alone",
    section="2.7",
    needs={"http"},
)
def _refusal(subject: Subject) -> None:
    run, other = subject.raw.open_run(), subject.raw.open_run()
    data = {"data": [subject.raw.datum()]}
    run.accepted("forward_backward", data)
    run.submit("forward_backward", {**data, "loss_fn": "no_such_loss"})
    run.submit("forward_backward", {"data": 3})
    run.submit("optim_step", {"adam_params": {"learning_rate": "fast"}})
    other.accepted("forward_backward", data)
    expect_equal(_grad_norm(run), _grad_norm(other), "the gradient after refused submits")


@rule(
    "submit.init-starts-afresh",
    title="`init_trainer_server` clears gradients and the step, and gives step 0 with the rank",
    section="2.5",
    needs={"http"},
)
def _init(subject: Subject) -> None:
    run = subject.raw.open_run()
    run.accepted("forward_backward", {"data": [subject.raw.datum()]})
    _grad_norm(run)
    result = run.done("init_trainer_server", lora_rank=2)
    expect_equal((result["step"], result["lora_rank"]), (0, 2), "step and rank")
    run.accepted("forward_backward", {"data": [subject.raw.datum()]})
    metrics = run.done("optim_step", adam_params=_ADAM)["metrics"]
    expect_equal(metrics["step"], 1, "the first step of the fresh adapter")


@rule(
    "submit.empty-data-is-refused",
    title="A batch without datums is refused at the call, and changes nothing",
    section="2.7",
)
def _empty(subject: Subject) -> None:
    trainer = subject.trainer()
    expect_raises(UsageError, lambda: trainer.forward_backward([]), "an empty batch")
    trainer.forward_backward(subject.data()).result()


@rule(
    "submit.unknown-loss-is-refused",
    title="An unknown loss_fn is refused at the call with a message that names it",
    section="2.7",
)
def _unknown_loss(subject: Subject) -> None:
    trainer = subject.trainer()
    error = expect_raises(
        UsageError, lambda: trainer.forward(subject.data(), "no_such_loss"), "an unknown loss"
    )
    expect("no_such_loss" in str(error), "the message names the loss", message=str(error))
