"""A pass over rows: losses and logprobs of each, and the gradient of their sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from loops_core.errors import UsageError
from loops_core.protocols import LossSettings
from loops_mock.exact import Floats, exp, log_softmax, total
from loops_mock.losses import ExactLoss
from loops_mock.model import Activations, Adapter, Factors, Model
from loops_mock.rows import Row

Gradient = Mapping[str, Factors]
"""d loss / d factors by place, float64."""

_LARGEST: Final = float(np.finfo(np.float32).max)


@final
@dataclass(frozen=True, slots=True)
class RowResult:
    """One row after its forward pass.

    Attributes:
        row: the row.
        activations: of its pass.
        log_probs: of every token at every position, [N, vocab].
        logprobs: of the targets, [N, K]; whatever where not scored.
        elementwise: what `compute` gave for each target, [N, K]; 0 where not active.
    """

    row: Row
    activations: Activations
    log_probs: Floats
    logprobs: Floats
    elementwise: Floats


@final
@dataclass(frozen=True, slots=True)
class PassResult:
    """A call's rows after their forward passes.

    Attributes:
        rows: in the order of the data.
        loss_sum: over all terms.
        slopes: d loss sum / d (sum of the row's elementwise), for each row.
    """

    rows: Sequence[RowResult]
    loss_sum: float
    slopes: Sequence[float]

    @property
    def num_active(self) -> int:
        """Return the number of active positions."""
        return sum(result.row.num_active for result in self.rows)


def run_forward(
    model: Model, adapter: Adapter, rows: Sequence[Row], loss: ExactLoss, settings: LossSettings
) -> PassResult:
    """Return the rows' losses and logprobs.

    Args:
        model: the frozen weights.
        adapter: the trained ones.
        rows: at least one, and a multiple of the loss's `rows_per_term`.
        loss: what is summed.
        settings: the loss's, completed.

    Raises:
        UsageError: a loss or its derivative is beyond float32.
    """
    results = [_run_row(model, adapter, row, loss, settings) for row in rows]
    sums = [float(total(total(result.elementwise))) for result in results]
    function = loss.function
    if function.combine is None or loss.combine_derivative is None:
        return PassResult(results, sum(sums), [1.0] * len(sums))
    with np.errstate(over="ignore", invalid="ignore"):
        grouped = np.asarray(sums).reshape(-1, function.rows_per_term)
        terms = function.combine(grouped, settings)
        slopes = loss.combine_derivative(grouped, settings).reshape(-1)
    _check_size(terms, function.name)
    _check_size(slopes, function.name)
    return PassResult(results, sum(terms.tolist()), slopes.tolist())


def run_backward(
    model: Model,
    adapter: Adapter,
    result: RowResult,
    loss: ExactLoss,
    settings: LossSettings,
    *,
    slope: float = 1.0,
) -> Gradient:
    """Return the gradient of `slope` times the row's loss sum.

    d logprob(y) / d logits = onehot(y) - softmax(logits), summed over a position's targets.
    """
    row = result.row
    with np.errstate(over="ignore", invalid="ignore"):
        derivative = loss.derivative(result.logprobs, row.inputs, settings)
        d_logprobs = np.where(row.active, slope * derivative, 0.0)
    _check_size(d_logprobs, loss.function.name)
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


def _run_row(
    model: Model, adapter: Adapter, row: Row, loss: ExactLoss, settings: LossSettings
) -> RowResult:
    activations = model.forward(model.windows(row.tokens), adapter)
    log_probs = log_softmax(activations.logits)
    logprobs = np.take_along_axis(log_probs, row.targets, axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        values = loss.function.compute(logprobs, row.inputs, settings)
        elementwise = np.where(row.active, values, 0.0)
    _check_size(elementwise, loss.function.name)
    return RowResult(row, activations, log_probs, logprobs, elementwise)


def _check_size(values: Floats, loss_name: str) -> None:
    """Refuse what float32 does not hold, and NaN."""
    beyond = ~(np.abs(values) <= _LARGEST)
    if beyond.any():
        raise UsageError(
            f"data gives {loss_name} a loss or derivative of {values[beyond][0]}; expected numbers "
            "that float32 holds; look at weights, logprobs, advantages and loss_fn_config",
            field="data",
        )
