"""Rules of results: their shapes, who may read them, how often."""

from __future__ import annotations

import math

from loops_mock.contract.answers import Json, ok
from loops_mock.contract.rule import expect, expect_equal, rule
from loops_mock.contract.subject import LENGTH, Subject

_ADAM: Json = {"learning_rate": 0.01}


@rule(
    "retrieve.done-shape",
    title='A finished operation is 200 with `{"status": "done", "result": {...}}`',
    section="2.6",
    needs={"http"},
)
def _done(subject: Subject) -> None:
    run = subject.raw.open_run()
    status = run.ended(run.accepted("forward", {"data": [subject.raw.datum()]}))
    expect_equal(status.get("status"), "done", "status")
    expect(isinstance(status.get("result"), dict), "result is an object", status=status)


@rule(
    "retrieve.error-shape",
    title="A failed operation is 200 with status error, the text `error`, and `error_class`",
    section="2.6",
    needs={"http"},
)
def _error(subject: Subject) -> None:
    run = subject.raw.open_run()
    operation_id = run.accepted("load_state", {"path": f"bt://loops:{run.id}/weights/nowhere"})
    status = run.ended(operation_id)
    expect_equal(status.get("status"), "error", "status")
    expect(isinstance(status.get("error"), str) and status["error"], "error is text", status=status)
    name = status.get("error_class")
    expect(name is None or isinstance(name, str), "error_class is text", status=status)
    expect_equal(ok(run.poll(operation_id)), status, "the second read of an error")


@rule(
    "retrieve.reading-does-not-consume",
    title="A result can be read again, and is the same",
    section="2.6",
    needs={"http"},
)
def _again(subject: Subject) -> None:
    run = subject.raw.open_run()
    operation_id = run.accepted("forward", {"data": [subject.raw.datum()]})
    first = run.ended(operation_id)
    for _ in range(2):
        expect_equal(ok(run.poll(operation_id)), first, "a result that is read again")


@rule(
    "retrieve.unknown-is-404",
    title="An operation that is none is 404",
    section="2.6",
    needs={"http"},
)
def _unknown(subject: Subject) -> None:
    run = subject.raw.open_run()
    expect_equal(run.poll("no-such-operation").status_code, 404, "the status of a poll for nobody")


@rule(
    "retrieve.any-key-can-be-read-back",
    title="The operation_id of any printable key can be polled for, percent-encoded",
    section="2.6",
    needs={"http"},
)
def _strange_key(subject: Subject) -> None:
    run = subject.raw.open_run()
    key = "a key/with ?strange&chars=%41"
    operation_id = run.accepted("forward", {"data": [subject.raw.datum()]}, key=key)
    expect_equal(run.ended(operation_id)["status"], "done", "the status of the operation")


@rule(
    "retrieve.unfinished-is-408",
    title="A poll for an operation that waits is held, and then 408; it never invents a status",
    section="2.6",
    needs={"http"},
)
def _pending(subject: Subject) -> None:
    run = subject.raw.open_run()
    ids = [run.accepted("forward", {"data": [subject.raw.datum()]}) for _ in range(8)]
    for operation_id in reversed(ids):
        reply = run.poll(operation_id)
        expect(reply.status_code in (200, 408), "a poll is 200 or 408", status=reply.status_code)
        if reply.status_code == 200:
            status = reply.json()["status"]
            expect(status in ("done", "error"), "a 200 tells the end", status=status)


@rule(
    "retrieve.forward-result-is-complete",
    title="A forward gives a finite loss, finite metrics, and outputs for each datum in order",
    section="2.2",
    needs={"http"},
)
def _forward(subject: Subject) -> None:
    run = subject.raw.open_run()
    data = [subject.raw.datum() for _ in range(3)]
    result = run.done("forward", data=data)
    expect(math.isfinite(result["loss"]), "loss is finite", loss=result["loss"])
    for name, value in result["metrics"].items():
        is_number = isinstance(value, int | float) and math.isfinite(value)
        expect(is_number, f"metrics[{name!r}] is a finite number", value=value)
    outputs = result["loss_fn_outputs"]
    expect_equal(len(outputs), len(data), "the number of outputs")
    for output in outputs:
        tensor = output["logprobs"]
        expect_equal((tensor["dtype"], tensor["shape"]), ("float32", [LENGTH]), "dtype and shape")
        expect(
            all(value <= 0 for value in tensor["data"]), "logprobs are <= 0", data=tensor["data"]
        )
    alone = run.done("forward", data=data[:1])["loss_fn_outputs"][0]["logprobs"]["data"]
    first: list[float] = outputs[0]["logprobs"]["data"]
    is_near = all(abs(a - b) < 1e-3 for a, b in zip(alone, first, strict=True))
    expect(is_near, "outputs are in the order of the data", alone=alone, in_batch=first)


@rule(
    "retrieve.ignored-positions-are-null",
    title="The logprob of an ignored position is null in JSON, and NaN is never written",
    section="4.1",
    needs={"http"},
)
def _null(subject: Subject) -> None:
    run = subject.raw.open_run()
    datum = subject.raw.datum()
    datum["loss_fn_inputs"]["target_tokens"]["data"][0] = -100
    operation_id = run.accepted("forward", {"data": [datum]})
    status = run.ended(operation_id)
    data = status["result"]["loss_fn_outputs"][0]["logprobs"]["data"]
    expect_equal(data[0], None, "the logprob of the ignored position")
    expect(all(isinstance(value, float) for value in data[1:]), "the others are numbers", data=data)
    expect("NaN" not in run.poll(operation_id).text, "NaN is never written")


@rule(
    "retrieve.skip-is-echoed",
    title="`metrics.skip_token_normalization` is 1.0 where it was asked for",
    section="5.4",
    needs={"http"},
)
def _skip(subject: Subject) -> None:
    run = subject.raw.open_run()
    config = {"skip_token_normalization": True}
    result = run.done("forward", data=[subject.raw.datum()], loss_fn_config=config)
    echoed = result["metrics"].get("skip_token_normalization")
    expect_equal(echoed, 1.0, "metrics.skip_token_normalization")


@rule(
    "retrieve.optim-step-metrics",
    title="An optim_step's metrics have step from 1, learning_rate and grad_norm, all finite",
    section="2.11",
    needs={"http"},
)
def _optim(subject: Subject) -> None:
    run = subject.raw.open_run()
    for number in (1, 2):
        run.accepted("forward_backward", {"data": [subject.raw.datum()]})
        metrics = run.done("optim_step", adam_params=_ADAM)["metrics"]
        expect_equal(metrics.get("step"), number, "metrics.step")
        expect_equal(metrics.get("learning_rate"), 0.01, "metrics.learning_rate")
        expect(metrics.get("grad_norm", 0) > 0, "metrics.grad_norm is positive", metrics=metrics)
        for name, value in metrics.items():
            expect(math.isfinite(value), f"metrics[{name!r}] is finite", value=value)


@rule(
    "retrieve.save-results-name-the-path",
    title="Saves give their bt:// path; those for the sampler a whole version number too",
    section="6.2",
    needs={"http"},
)
def _saves(subject: Subject) -> None:
    run = subject.raw.open_run()
    state = run.done("save_state", name="one", ttl_seconds=3600)
    expect_equal(state["path"], f"bt://loops:{run.id}/weights/one", "the path of a state")
    expect(isinstance(state.get("mode"), str), "mode is text", state=state)
    for body in ({"ttl_seconds": None, "bump_version": False}, {"bump_version": True}):
        saved = run.done("save_weights_for_sampler", name="two", **body)
        path = f"bt://loops:{run.id}/sampler_weights/two"
        expect_equal(saved["path"], path, "the path of published weights")
        version = saved["version"]
        expect(isinstance(version, int) and version >= 0, "version is a whole number", saved=saved)


@rule(
    "retrieve.load-results-tell-the-step",
    title="Loads give the step afterwards: 0 without the optimizer, the saved one with it",
    section="6.3",
    needs={"http"},
)
def _loads(subject: Subject) -> None:
    run = subject.raw.open_run()
    run.accepted("forward_backward", {"data": [subject.raw.datum()]})
    run.accepted("optim_step", {"adam_params": _ADAM})
    path = run.done("save_state", name="stepped")["path"]
    expect_equal(run.done("load_state", path=path)["step"], 0, "the step without the optimizer")
    step = run.done("load_state_with_optimizer", path=path)["step"]
    expect_equal(step, 1, "the step with the optimizer")
