"""Rules of bodies that are wrong: refused at once with the reason, or failed with an error result.

Published clients repeat a plain 400 or 404 of a submit for up to an hour, so a refusal has to have
another status, or say that it is final.
"""

from __future__ import annotations

from typing import Any

from loops_mock.contract.answers import Json, refused
from loops_mock.contract.rule import expect, expect_equal, rule
from loops_mock.contract.subject import Subject
from loops_mock.contract.wire import WireRun


def _refuse(rule_id: str, operation: str, what: str, body: Json, naming: str | None = None) -> None:
    @rule(
        f"errors.{rule_id}",
        title=f"{what[0].upper()}{what[1:]} is refused for good at the submit of {operation}",
        section="2.7",
        needs={"http"},
    )
    def _check(subject: Subject) -> None:
        run = subject.raw.open_run()
        data = {"data": [subject.raw.datum()]} if operation.startswith("forward") else {}
        refused(run.submit(operation, {**data, **body}), what, naming=naming)


_refuse("data-of-wrong-type", "forward", "data that is a number", {"data": 3}, "data")
_refuse("datum-of-wrong-type", "forward", "a datum that is a list", {"data": [[]]}, "data")
_refuse(
    "loss-config-unknown-key",
    "forward",
    "an unknown key of loss_fn_config",
    {"loss_fn_config": {"no_such_key": 1}},
    "no_such_key",
)
_refuse(
    "top-k-negative",
    "forward",
    "a negative top_k_logprobs",
    {"top_k_logprobs": -1},
    "top_k_logprobs",
)
_refuse("adam-missing", "optim_step", "a step without adam_params", {}, "adam_params")
_refuse(
    "adam-of-text",
    "optim_step",
    "a learning_rate that is text",
    {"adam_params": {"learning_rate": "fast"}},
    "learning_rate",
)
_refuse(
    "adam-negative-rate",
    "optim_step",
    "a negative learning_rate",
    {"adam_params": {"learning_rate": -1.0}},
    "learning_rate",
)
_refuse("adam-beta-of-one", "optim_step", "a beta2 of 1", {"adam_params": {"beta2": 1.0}}, "beta2")
_refuse("rank-missing", "init_trainer_server", "an init without lora_rank", {}, "lora_rank")
_refuse("rank-zero", "init_trainer_server", "a lora_rank of 0", {"lora_rank": 0}, "lora_rank")
_refuse("name-missing", "save_state", "a save without name", {}, "name")
_refuse(
    "name-leads-out",
    "save_state",
    "a name that leads out of its folder",
    {"name": "../../escape"},
    "name",
)
_refuse(
    "ttl-zero", "save_state", "a ttl_seconds of 0", {"name": "x", "ttl_seconds": 0}, "ttl_seconds"
)
_refuse("path-missing", "load_state", "a load without path", {}, "path")


def _fail(rule_id: str, what: str, **changes: Any) -> None:
    @rule(
        f"errors.{rule_id}",
        title=f"{what[0].upper()}{what[1:]} is refused for good, or fails with an error result",
        section="5.1",
        needs={"http"},
    )
    def _check(subject: Subject) -> None:
        run = subject.raw.open_run()
        datum = subject.raw.datum()
        inputs = {**datum["loss_fn_inputs"], **changes.get("inputs", {})}
        wrong = {**datum, "loss_fn_inputs": inputs, **changes.get("datum", {})}
        reply = run.submit("forward_backward", {"data": [wrong]})
        if reply.is_success:
            status = run.ended(reply.json()["operation_id"])
            expect_equal(status["status"], "error", f"the status of {what}")
        else:
            refused(reply, what)


def _text(tokens: list[Any]) -> Json:
    return {"model_input": {"chunks": [{"type": "encoded_text", "tokens": tokens}]}}


def _tensor(data: list[Any], dtype: str = "int64", shape: list[int] | None = None) -> Json:
    return {"data": data, "dtype": dtype, "shape": [len(data)] if shape is None else shape}


_fail(
    "token-outside-vocabulary",
    "a token outside the vocabulary",
    datum=_text([3, 10**7, 4, 5, 6, 7]),
)
_fail("token-negative", "a negative token", datum=_text([3, -7, 4, 5, 6, 7]))
_fail("token-fraction", "a token with a fraction", datum=_text([3, 4.5, 4, 5, 6, 7]))
_fail(
    "chunk-of-unknown-type",
    "a chunk of unknown type",
    datum={"model_input": {"chunks": [{"type": "no_such_chunk", "tokens": [3]}]}},
)
_fail("no-tokens", "an input without tokens", datum={"model_input": {"chunks": []}})
_fail(
    "targets-of-another-length",
    "targets of another length than the input",
    inputs={"target_tokens": _tensor([4, 5])},
)
_fail(
    "targets-outside-vocabulary",
    "a target outside the vocabulary",
    inputs={"target_tokens": _tensor([4, 5, 10**7, 6, 7, 8])},
)
_fail(
    "shape-is-not-the-data",
    "a shape that is not that of the data",
    inputs={"target_tokens": _tensor([4, 5, 6, 7, 8, 9], shape=[7])},
)
_fail(
    "dtype-unknown",
    "a dtype that is none",
    inputs={"target_tokens": _tensor([4, 5, 6, 7, 8, 9], dtype="complex3")},
)
_fail(
    "inputs-as-raw-lists",
    "a loss input that is a bare list",
    inputs={"target_tokens": [4, 5, 6, 7, 8, 9]},
)
_fail(
    "weights-of-another-length",
    "weights of another length than the targets",
    inputs={"weights": _tensor([1.0, 2.0], dtype="float32")},
)


_GARBAGE: dict[str, bytes] = {
    "not-json": b"{",
    "not-an-object": b"[]",
    "not-utf8": b'{"name": "\xff\xfe"}',
    "nested-too-deep": b"[" * 50_000,
    "two-values": b"{} {}",
}


def _garbage(run: WireRun, content: bytes) -> None:
    url = f"{run.url}/save_state"
    headers = {"X-Run-Id": run.id, "Content-Type": "application/json"}
    refused(run.wire.request("POST", url, content=content, headers=headers), f"{content[:20]!r}")


@rule(
    "errors.garbage-is-refused",
    title="Bodies that are no JSON object are refused for good: never a 5xx, never a dropped line",
    section="2.7",
    needs={"http"},
)
def _bodies(subject: Subject) -> None:
    run = subject.raw.open_run()
    for content in _GARBAGE.values():
        _garbage(run, content)
    expect_equal(run.get("/health").status_code, 200, "health after garbage")


@rule(
    "errors.unknown-operation-is-refused",
    title="An operation that is none is a 4xx, or 501",
    section="2.7",
    needs={"http"},
)
def _unknown(subject: Subject) -> None:
    run = subject.raw.open_run()
    status = run.submit("no_such_operation", {}).status_code
    expect(400 <= status < 500 or status == 501, "an unknown operation is a 4xx", status=status)


@rule(
    "errors.another-runs-id-is-refused",
    title="A body that names another run than the trainer's address is refused",
    section="2.2",
    needs={"http"},
)
def _another_run(subject: Subject) -> None:
    run = subject.raw.open_run()
    reply = subject.raw.post(f"{run.url}/save_state", {"name": "x", "run_id": "another"})
    refused(reply, "a body of another run")


@rule(
    "errors.unknown-run-is-refused",
    title="A trainer that is none answers submits, polls and health with a 4xx",
    section="2.2",
    needs={"http"},
)
def _unknown_run(subject: Subject) -> None:
    run = subject.raw.open_run()
    url = run.url.replace(run.id, "nobody")
    if url == run.url:
        return  # a trainer of its own: there is no other behind its address
    for method, leaf in (("POST", "forward"), ("GET", "operations/x"), ("GET", "health")):
        status = subject.raw.request(method, f"{url}/{leaf}", body={"data": []}).status_code
        expect(400 <= status < 500, f"{leaf} of an unknown run is a 4xx", status=status)
