"""A pass over rows: losses and logprobs of each, and the gradient of their sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from loops_core.errors import UsageError
from loops_core.protocols import LossFunction
from loops_core.types.tensor import TensorData
from loops_core.types.training import ForwardBackwardOutput
from loops_mock.exact import Floats, exp, log_softmax, total
from loops_mock.losses import DERIVATIVES, SKIP_NORMALIZATION
from loops_mock.model import Activations, Adapter, Factors, Model
from loops_mock.rows import Row

Gradient = Mapping[str, Factors]
"""d loss / d factors by place, float64."""


@final
@dataclass(frozen=True, slots=True)
class RowResult:
    """One row after its forward pass.

    Attributes:
        row: the row.
        activations: of its pass.
        log_probs: of every token at every position, [N, vocab].
        logprobs: of the targets, [N, K]; whatever where not scored.
        elementwise: the loss of each target, [N, K]; 0 where not active.
    """

    row: Row
    activations: Activations
    log_probs: Floats
    logprobs: Floats
    elementwise: Floats


def run_forward(
    model: Model,
    adapter: Adapter,
    row: Row,
    loss: LossFunction,
    settings: Mapping[str, float | bool],
) -> RowResult:
    """Return the row's losses and logprobs.

    Raises:
        UsageError: a loss is beyond float32.
    """
    activations = model.forward(model.windows(row.tokens), adapter)
    log_probs = log_softmax(activations.logits)
    logprobs = np.take_along_axis(log_probs, row.targets, axis=1)
    with np.errstate(over="ignore"):
        elementwise = np.where(row.active, loss.compute(logprobs, row.inputs, settings), 0.0)
    if not (np.abs(elementwise) <= np.finfo(np.float32).max).all():
        worst = elementwise.flat[np.abs(elementwise).argmax()]
        raise UsageError(
            f"data gives {loss.name} a loss of {worst} at a position; expected losses that float32 "
            "holds; look at the weights",
            field="data",
        )
    return RowResult(row, activations, log_probs, logprobs, elementwise)


def run_backward(
    model: Model,
    adapter: Adapter,
    result: RowResult,
    loss: LossFunction,
    settings: Mapping[str, float | bool],
) -> Gradient:
    """Return the gradient of the row's loss sum.

    d logprob(y) / d logits = onehot(y) - softmax(logits), summed over a position's targets.
    """
    row = result.row
    derivative = DERIVATIVES[loss.name](result.logprobs, row.inputs, settings)
    d_logprobs = np.where(row.active, derivative, 0.0)
    d_logits = -total(d_logprobs)[:, None] * exp(result.log_probs)
    for k in range(d_logprobs.shape[1]):
        d_logits[np.arange(len(row.tokens)), row.targets[:, k]] += d_logprobs[:, k]
    return model.backward(result.activations, d_logits, adapter)


def add_gradients(left: Gradient, right: Gradient) -> Gradient:
    """Return the sum of two gradients."""
    return {
        site: Factors(a.lora_a + right[site].lora_a, a.lora_b + right[site].lora_b)
        for site, a in left.items()
    }


def make_output(
    results: Sequence[RowResult], settings: Mapping[str, float | bool]
) -> ForwardBackwardOutput:
    """Return what a client sees; `loss` is the mean over active positions, 0 without any."""
    loss_sum = sum(float(total(total(result.elementwise))) for result in results)
    active = sum(result.row.num_active for result in results)
    metrics = {
        "loss": loss_sum / max(active, 1),
        "loss:sum": loss_sum,
        "active_tokens": float(active),
        "active_tokens:sum": float(active),
    }
    if settings[SKIP_NORMALIZATION]:
        metrics[SKIP_NORMALIZATION] = 1.0
    return ForwardBackwardOutput(
        loss=metrics["loss"],
        loss_fn_output_type="per_token_logprobs",
        loss_fn_outputs=[_make_tensors(result) for result in results],
        metrics=metrics,
    )


def _make_tensors(result: RowResult) -> dict[str, TensorData]:
    logprobs = np.where(result.row.scored, result.logprobs, np.nan)
    arrays = {"logprobs": logprobs, "elementwise_loss": result.elementwise}
    return {
        name: TensorData.from_numpy(array.astype(np.float32).reshape(result.row.shape))
        for name, array in arrays.items()
    }
