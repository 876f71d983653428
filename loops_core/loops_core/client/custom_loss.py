"""forward_backward_custom: a user's own loss in torch or JAX, trained through cross-entropy.

Pass 1 fetches the log-probabilities lp of the targets. The user's function turns them into a loss
C, and its framework gives dC/dlp. Pass 2 is a cross-entropy with weights w = -dC/dlp: its loss, the
sum of -w * lp, has exactly the gradient of C with respect to the adapter.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import CodeType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, cast

import numpy as np

from loops_core.client.arguments import check_data, shown
from loops_core.client.drivers import Flow, compute
from loops_core.client.futures import ForwardBackwardFuture
from loops_core.client.link import TrainerLink
from loops_core.client.passes import submit_pass
from loops_core.errors import UnsupportedError, UsageError
from loops_core.types.datum import Datum
from loops_core.types.operation import OperationKind
from loops_core.types.tensor import TensorData
from loops_core.types.training import ForwardBackwardOutput

if TYPE_CHECKING:
    import torch

Framework = Literal["torch", "jax"]
"""The libraries that a custom loss may be written with."""

Tensor: TypeAlias = Any
"""A torch tensor or a JAX array; the core depends on neither."""

FloatArray: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

_SUMS: Final = {"skip_token_normalization": True}
_FRAMEWORKS: Final[tuple[Framework, ...]] = ("torch", "jax")


class CustomLossFn(Protocol):
    """A loss over a batch: differentiable, and called once for each `forward_backward_custom`."""

    def __call__(
        self, data: list[Datum], logprobs: list[Tensor], /
    ) -> tuple[Tensor, Mapping[str, Any]]:
        """Return the loss, a scalar, and metrics by name.

        Args:
            data: the batch as the caller passed it.
            logprobs: natural-log probabilities of each datum's `target_tokens`, in their shape,
                float32; 0 at ignored positions.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """What the user's function gave: its value, its metrics, and the gradient for each datum."""

    loss: float
    metrics: dict[str, float]
    grads: list[FloatArray]


def custom_pass(
    link: TrainerLink,
    data: Sequence[Datum],
    loss_fn: CustomLossFn,
    loss_type_input: str,
    framework: Framework | None,
) -> Flow[ForwardBackwardFuture]:
    """Run pass 1 and the user's function, submit pass 2 and return its future."""
    link.check_open()
    if loss_type_input != "logprobs":
        raise UsageError(
            f"loss_type_input must be 'logprobs', not {shown(loss_type_input)}",
            field="loss_type_input",
        )
    batch = check_data(data)
    for index, datum in enumerate(batch):
        _check_inputs(index, datum)
    derive = _deriver(loss_fn, framework)
    first = yield from submit_pass(link, OperationKind.FORWARD, batch, "cross_entropy", {**_SUMS})
    outcome = yield from first.wait_flow(link.host.now() + link.settings.ready_timeout_s)
    logprobs = _logprobs_of(outcome.unwrap(), batch)
    derived = yield from compute(
        partial(derive, loss_fn, batch, [np.nan_to_num(p) for p in logprobs])
    )
    weighted = [
        _with_weights(datum, np.where(np.isnan(lp), np.float32(0), -grad))
        for datum, lp, grad in zip(batch, logprobs, derived.grads, strict=True)
    ]
    return (
        yield from submit_pass(
            link,
            OperationKind.FORWARD_BACKWARD,
            weighted,
            "cross_entropy",
            {**_SUMS},
            amend=partial(_amended, derived=derived),
        )
    )


def _check_inputs(index: int, datum: Datum) -> None:
    where = f"data[{index}].loss_fn_inputs"
    if "target_tokens" not in datum.loss_fn_inputs:
        raise UsageError(f"{where} must hold target_tokens", field=where)
    if "weights" in datum.loss_fn_inputs:
        raise UsageError(
            f"{where} holds weights, which a custom loss would not see applied: multiply by them "
            "inside loss_fn and leave them out of the datum",
            field=f"{where}['weights']",
        )
    others = sorted(set(datum.loss_fn_inputs) - {"target_tokens"})
    if others:
        raise UsageError(
            f"{where} holds {', '.join(others)}: a custom loss takes target_tokens only; let "
            "loss_fn close over what else it needs",
            field=where,
        )


def _logprobs_of(output: ForwardBackwardOutput, data: list[Datum]) -> list[FloatArray]:
    if output.metrics.get("skip_token_normalization") != 1.0:
        raise UnsupportedError(
            "the service does not confirm skip_token_normalization, without which the gradients of "
            "a custom loss would be scaled: it cannot run forward_backward_custom"
        )
    if len(output.loss_fn_outputs) != len(data):
        raise UnsupportedError(
            f"the service answered {len(output.loss_fn_outputs)} loss_fn_outputs for {len(data)} "
            "datums: it cannot run forward_backward_custom"
        )
    arrays: list[FloatArray] = []
    for index, (tensors, datum) in enumerate(zip(output.loss_fn_outputs, data, strict=True)):
        logprobs = tensors.get("logprobs")
        shape = datum.loss_fn_inputs["target_tokens"].shape
        if logprobs is None or logprobs.shape != shape:
            raise UnsupportedError(
                f"the service answered no logprobs of shape {shape} for data[{index}]: it cannot "
                "run forward_backward_custom"
            )
        arrays.append(logprobs.to_numpy().astype(np.float32))
    return arrays


def _with_weights(datum: Datum, weights: FloatArray) -> Datum:
    inputs = {**datum.loss_fn_inputs, "weights": TensorData.from_numpy(weights)}
    return datum.model_copy(update={"loss_fn_inputs": inputs})


def _amended(output: ForwardBackwardOutput, *, derived: Derived) -> ForwardBackwardOutput:
    metrics = {**output.metrics, "custom_loss": derived.loss, **derived.metrics}
    return output.model_copy(update={"metrics": metrics})


Deriver: TypeAlias = Callable[[CustomLossFn, list[Datum], list[FloatArray]], Derived]


def _deriver(loss_fn: CustomLossFn, framework: Framework | None) -> Deriver:
    """Return what differentiates the function: as told, or else as its own code shows.

    Of torch and JAX the one is taken that is installed. If both are, the one whose modules or
    members the function names among its globals and closed-over values; torch if it names neither
    or both.
    """
    if framework is not None and framework not in _FRAMEWORKS:
        raise UsageError(
            f"framework must be 'torch', 'jax' or None, not {shown(framework)}", field="framework"
        )
    if not callable(loss_fn):
        raise UsageError(f"loss_fn must be a function, not {shown(loss_fn)}", field="loss_fn")
    installed = [name for name in _FRAMEWORKS if importlib.util.find_spec(name) is not None]
    wanted: Sequence[Framework] = [framework] if framework is not None else _FRAMEWORKS
    usable = [name for name in wanted if name in installed]
    if not usable:
        raise UnsupportedError(
            f"forward_backward_custom needs {' or '.join(wanted)} to differentiate loss_fn: "
            "install it",
            field="framework",
        )
    if len(usable) > 1:
        usable = [name for name in usable if name in _named_by(loss_fn)] or usable
    return _derive_torch if usable[0] == "torch" else _derive_jax


def _named_by(loss_fn: object) -> set[str]:
    """Return the top-level packages of what a function's code refers to."""
    while isinstance(loss_fn, partial):
        loss_fn = cast("Any", loss_fn).func
    function = loss_fn if inspect.isroutine(loss_fn) else type(loss_fn).__call__
    function = inspect.unwrap(cast("Callable[..., object]", function))
    if not inspect.isfunction(function):
        function = getattr(function, "__func__", None)
    if not inspect.isfunction(function):
        return set()
    names = set(_names_in(function.__code__))
    used = [value for name, value in function.__globals__.items() if name in names]
    used += inspect.getclosurevars(function).nonlocals.values()
    homes = (
        getattr(value, "__name__" if inspect.ismodule(value) else "__module__", None)
        for value in used
    )
    return {str(home).partition(".")[0] for home in (*homes, *names)}


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _derive_torch(loss_fn: CustomLossFn, data: list[Datum], logprobs: list[FloatArray]) -> Derived:
    leaves: list[torch.Tensor] = [
        TensorData.from_numpy(array).to_torch().reshape(array.shape).requires_grad_()
        for array in logprobs
    ]
    loss, metrics = _checked(loss_fn(data, list(leaves)))
    if not hasattr(loss, "backward"):
        raise UsageError(
            f"loss_fn must return a torch scalar and metrics, not {type(loss).__name__}: "
            "pass framework='jax' for a JAX function",
            field="loss_fn",
        )
    if loss.numel() != 1 or not loss.requires_grad:
        raise UsageError(
            f"loss_fn must return one number that depends on logprobs, not a tensor of shape "
            f"{list(loss.shape)} with requires_grad={loss.requires_grad}",
            field="loss_fn",
        )
    loss.backward()
    grads: list[FloatArray] = []
    for index, leaf in enumerate(leaves):
        if leaf.grad is None:
            raise UsageError(
                f"loss_fn returned a loss that does not depend on logprobs[{index}]: every datum "
                "has to take part",
                field="loss_fn",
            )
        grads.append(leaf.grad.detach().numpy())
    return _derived(float(loss.detach()), metrics, grads)


def _derive_jax(loss_fn: CustomLossFn, data: list[Datum], logprobs: list[FloatArray]) -> Derived:
    import jax

    def value(arrays: list[jax.Array]) -> tuple[jax.Array, dict[str, Any]]:
        loss, metrics = _checked(loss_fn(data, list(arrays)))
        if getattr(loss, "shape", None) != ():
            raise UsageError(
                f"loss_fn must return one number that depends on logprobs, not "
                f"{type(loss).__name__} of shape {getattr(loss, 'shape', None)}",
                field="loss_fn",
            )
        return loss, metrics

    leaves = [TensorData.from_numpy(array).to_jax() for array in logprobs]
    differentiate = cast("Any", jax).value_and_grad  # typed in part only
    (loss, metrics), grads = differentiate(value, has_aux=True)(leaves)
    return _derived(float(loss), metrics, [np.asarray(grad, dtype=np.float32) for grad in grads])


def _checked(answer: object) -> tuple[Any, dict[str, Any]]:
    parts: tuple[Any, ...] = cast("Any", answer) if isinstance(answer, tuple) else ()
    if len(parts) != 2 or not isinstance(parts[1], Mapping):
        raise UsageError(
            f"loss_fn must return (loss, dict of metrics), not {shown(cast('object', answer))}",
            field="loss_fn",
        )
    return parts[0], dict(cast("Mapping[str, Any]", parts[1]))


def _derived(loss: float, metrics: Mapping[str, Any], grads: list[FloatArray]) -> Derived:
    numbers = {name: _number(name, value) for name, value in metrics.items()}
    for index, grad in enumerate(grads):
        if not np.isfinite(grad).all():
            raise UsageError(
                f"loss_fn has a gradient of NaN or infinity at data[{index}]: nothing is trained",
                field="loss_fn",
            )
    return Derived(loss=_number("loss", loss), metrics=numbers, grads=grads)


def _number(name: str, value: Any) -> float:
    number = float(value.detach() if hasattr(value, "detach") else value)
    if not math.isfinite(number):
        raise UsageError(
            f"loss_fn returned {name}={number}: expected a finite number", field="loss_fn"
        )
    return number
