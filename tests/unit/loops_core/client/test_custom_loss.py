"""forward_backward_custom: a user's loss becomes weights of a cross-entropy."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from tests.unit.loops_core.client.fakes import FakeService, done, failed, make_client, make_datum

from loops_core.client.custom_loss import Framework
from loops_core.client.training import TrainingClient
from loops_core.errors import RemoteOpError, UnsupportedError, UsageError
from loops_core.types.base import WireModel
from loops_core.types.datum import Datum
from loops_core.types.operation import ForwardBody, OperationStatus
from loops_core.types.routes import Call
from loops_core.types.tensor import TensorData
from loops_core.types.training import ForwardBackwardOutput

pytestmark = pytest.mark.slow  # the first test imports torch and JAX

HAS = {name: importlib.util.find_spec(name) is not None for name in ("torch", "jax")}
needs_torch = pytest.mark.skipif(not HAS["torch"], reason="needs torch")
needs_jax = pytest.mark.skipif(not HAS["jax"], reason="needs jax")
both = pytest.mark.parametrize(
    "framework",
    [pytest.param("torch", marks=needs_torch), pytest.param("jax", marks=[needs_jax])],
)
CONFIRMED = {"skip_token_normalization": 1.0}
LOGPROBS = [[-1.0, -2.0, float("nan")], [-0.5, -0.25, -3.0]]
DATA = [make_datum([1, 2, 3]), make_datum([4, 5, 6])]


def body_of(call: Call[WireModel]) -> ForwardBody:
    assert isinstance(call.body, ForwardBody)
    return call.body


def scored(call: Call[WireModel]) -> OperationStatus:
    """Answer a forward pass with `LOGPROBS`, and a backward pass with its surrogate's loss."""
    tensors = [{"logprobs": TensorData.from_list(row)} for row in LOGPROBS]
    outputs = tensors[: len(body_of(call).data)]
    return done(ForwardBackwardOutput(loss=9.0, loss_fn_outputs=outputs, metrics=CONFIRMED))


@pytest.fixture
def service() -> FakeService:
    service = FakeService()
    service.automatic = scored
    return service


@pytest.fixture
def client(service: FakeService) -> TrainingClient:
    return make_client(service)


def squared(data: list[Datum], logprobs: list[Any]) -> tuple[Any, dict[str, Any]]:
    """Return a loss whose gradient is lp + 1, also where a position is ignored."""
    del data
    loss = sum((lp * lp).sum() / 2 + lp.sum() for lp in logprobs)
    return loss, {"first": logprobs[0][0], "count": len(logprobs)}


def sent_weights(service: FakeService) -> list[list[float]]:
    data = body_of(service.sent("forward_backward")[-1]).data
    return [datum.loss_fn_inputs["weights"].tolist() for datum in data]


@both
def test_the_weights_are_minus_the_gradient_and_0_where_ignored(
    service: FakeService, client: TrainingClient, framework: Framework
) -> None:
    client.forward_backward_custom(DATA, squared, framework=framework)
    assert sent_weights(service) == [[0.0, 1.0, 0.0], [-0.5, -0.75, 2.0]]


@both
async def test_the_result_reports_the_user_s_loss_and_metrics(
    client: TrainingClient, framework: Framework
) -> None:
    future = await client.forward_backward_custom_async(DATA, squared, framework=framework)
    result = await future
    expected = (1 + 4 + 0.25 + 0.0625 + 9) / 2 - (1 + 2 + 0.5 + 0.25 + 3)
    assert result.loss == 9.0
    assert result.metrics == {**CONFIRMED, "custom_loss": expected, "first": -1.0, "count": 2.0}


@needs_torch
def test_both_passes_are_plain_sums_over_the_same_targets(
    service: FakeService, client: TrainingClient
) -> None:
    client.forward_backward_custom(DATA, squared, framework="torch")
    first, second = service.calls[0], service.sent("forward_backward")[0]
    assert first.route.name == "forward"
    for call in (first, second):
        body = body_of(call)
        assert (body.loss_fn, body.loss_fn_config) == ("cross_entropy", CONFIRMED)
        targets = [datum.loss_fn_inputs["target_tokens"].tolist() for datum in body.data]
        assert targets == [[1, 2, 3], [4, 5, 6]]
    assert "weights" not in DATA[0].loss_fn_inputs


@needs_torch
async def test_the_function_runs_beside_the_event_loop(client: TrainingClient) -> None:
    threads: list[threading.Thread] = []

    def watching(data: list[Datum], logprobs: list[Any]) -> tuple[Any, dict[str, Any]]:
        threads.append(threading.current_thread())
        return squared(data, logprobs)

    await client.forward_backward_custom_async(DATA, watching, framework="torch")
    assert threads != [threading.current_thread()]


def plain_number(data: list[Datum], logprobs: list[Any]) -> tuple[Any, dict[str, Any]]:
    del data, logprobs
    return 1.0, {}


Bad = Callable[[Any], Callable[[list[Datum], list[Any]], Any]]
BAD_FUNCTIONS: dict[str, tuple[str, Bad]] = {
    "no pair": ("dict of metrics", lambda _: lambda data, lps: lps[0].sum()),
    "no metrics": ("dict of metrics", lambda _: lambda data, lps: (lps[0].sum(), None)),
    "a plain number": ("loss_fn must return", lambda _: plain_number),
    "no scalar": ("one number", lambda _: lambda data, lps: (lps[0] * 2, {})),
    "an infinite gradient": (
        "NaN or infinity",
        lambda np_: lambda data, lps: (sum(np_.sqrt(lp - lp).sum() for lp in lps), {}),
    ),
    "an infinite metric": (
        "worst=inf",
        lambda _: lambda data, lps: (sum(lp.sum() for lp in lps), {"worst": float("inf")}),
    ),
}


def namespace(framework: Framework) -> Any:
    if framework == "torch":
        import torch

        return torch
    import jax.numpy as jnp

    return jnp


@both
@pytest.mark.parametrize("case", BAD_FUNCTIONS)
def test_a_function_that_gives_no_gradient_trains_nothing(
    service: FakeService, client: TrainingClient, framework: Framework, case: str
) -> None:
    words, make = BAD_FUNCTIONS[case]
    with pytest.raises(UsageError, match=words) as caught:
        client.forward_backward_custom(DATA, make(namespace(framework)), framework=framework)
    assert caught.value.field == "loss_fn"
    assert service.sent("forward_backward") == []


@needs_torch
def test_a_torch_loss_that_leaves_a_datum_out_is_refused(client: TrainingClient) -> None:
    with pytest.raises(UsageError, match=r"logprobs\[1\]"):
        client.forward_backward_custom(DATA, lambda data, lps: (lps[0].sum(), {}))


@needs_torch
def test_what_the_function_itself_raises_reaches_the_caller(
    service: FakeService, client: TrainingClient
) -> None:
    with pytest.raises(ZeroDivisionError):
        client.forward_backward_custom(DATA, lambda data, lps: (1 / 0, {}))
    service.automatic = scored
    client.forward(DATA)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"weights": [1.0, 1.0, 1.0]}, "weights"),
        ({"advantages": [1.0, 1.0, 1.0]}, "advantages"),
    ],
)
def test_inputs_that_would_be_dropped_are_refused(
    service: FakeService, client: TrainingClient, inputs: dict[str, list[float]], words: str
) -> None:
    tensors = {name: TensorData.from_list(values) for name, values in inputs.items()}
    datum = make_datum()
    mixed = datum.model_copy(update={"loss_fn_inputs": {**datum.loss_fn_inputs, **tensors}})
    with pytest.raises(UsageError, match=rf"data\[1\].*{words}"):
        client.forward_backward_custom([make_datum(), mixed], squared)
    assert service.calls == []


def test_targets_are_needed(client: TrainingClient) -> None:
    bare = make_datum().model_copy(update={"loss_fn_inputs": {}})
    with pytest.raises(UsageError, match="target_tokens"):
        client.forward_backward_custom([bare], squared)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (ForwardBackwardOutput(), "skip_token_normalization"),
        (ForwardBackwardOutput(metrics=CONFIRMED), "0 loss_fn_outputs for 2"),
        (ForwardBackwardOutput(metrics=CONFIRMED, loss_fn_outputs=[{}, {}]), r"no logprobs"),
    ],
)
@needs_torch
def test_a_service_that_cannot_do_this_is_named_as_such(
    service: FakeService, client: TrainingClient, output: ForwardBackwardOutput, words: str
) -> None:
    service.automatic = lambda _: done(output)
    with pytest.raises(UnsupportedError, match=words):
        client.forward_backward_custom(DATA, squared)


@needs_torch
def test_a_forward_pass_that_failed_is_raised_at_the_call(
    service: FakeService, client: TrainingClient
) -> None:
    service.automatic = lambda _: failed("token 99 is outside the vocabulary")
    with pytest.raises(RemoteOpError, match="outside the vocabulary"):
        client.forward_backward_custom(DATA, squared)


def test_an_unknown_framework_is_refused(client: TrainingClient) -> None:
    with pytest.raises(UsageError, match="framework"):
        client.forward_backward_custom(DATA, squared, framework="numpy")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="loss_fn"):
        client.forward_backward_custom(DATA, "squared")  # type: ignore[arg-type]


def test_without_a_framework_the_missing_ones_are_named(
    client: TrainingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "jax"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    with pytest.raises(UnsupportedError, match="torch or jax"):
        client.forward_backward_custom(DATA, squared)
    with pytest.raises(UnsupportedError, match="needs jax"):
        client.forward_backward_custom(DATA, squared, framework="jax")


def kinds_seen(client: TrainingClient, make: Callable[[list[str]], Any]) -> list[str]:
    seen: list[str] = []
    client.forward_backward_custom(DATA, make(seen))
    return [kind.partition(".")[0] for kind in seen]


def uses_jax(seen: list[str]) -> Any:
    import jax.numpy as jnp

    def loss(data: list[Datum], logprobs: list[Any]) -> tuple[Any, dict[str, Any]]:
        seen.append(type(logprobs[0]).__module__)
        return jnp.sum(jnp.concatenate(logprobs)), {}

    return loss


def imports_jax_inside(seen: list[str]) -> Any:
    def loss(data: list[Datum], logprobs: list[Any]) -> tuple[Any, dict[str, Any]]:
        import jax.numpy as jnp

        seen.append(type(logprobs[0]).__module__)
        return jnp.sum(jnp.concatenate(logprobs)), {}

    return loss


def uses_neither(seen: list[str]) -> Any:
    def loss(data: list[Datum], logprobs: list[Any]) -> tuple[Any, dict[str, Any]]:
        seen.append(type(logprobs[0]).__module__)
        return sum(lp.sum() for lp in logprobs), {}

    return loss


def wraps_one_that_uses_jax(seen: list[str]) -> Any:
    return partial(uses_jax(seen))


@needs_torch
@needs_jax
@pytest.mark.parametrize(
    ("make", "package"),
    [
        (uses_jax, "jax"),
        (imports_jax_inside, "jax"),
        (wraps_one_that_uses_jax, "jax"),
        (uses_neither, "torch"),
    ],
)
def test_the_framework_is_the_one_that_the_function_s_code_refers_to(
    client: TrainingClient, make: Callable[[list[str]], Any], package: str
) -> None:
    assert kinds_seen(client, make) == [package]


@needs_torch
def test_logprobs_reach_the_function_as_floats_with_0_for_ignored(client: TrainingClient) -> None:
    seen: list[Any] = []

    def keep(data: list[Datum], logprobs: list[Any]) -> tuple[Any, dict[str, Any]]:
        seen.extend(lp.detach().numpy().copy() for lp in logprobs)
        assert data == DATA
        return squared(data, logprobs)

    client.forward_backward_custom(DATA, keep)
    np.testing.assert_array_equal(seen, [[-1, -2, 0], [-0.5, -0.25, -3]])
    assert seen[0].dtype == np.float32
