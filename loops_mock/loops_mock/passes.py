"""A pass over rows: losses and logprobs of each, and the gradient of their sum."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from loops_core.errors import UsageError
from loops_core.protocols import LossSettings
from loops_core.protocols.rows import Row
from loops_mock.exact import Floats, Softmax, softmax, total
from loops_mock.losses import ExactLoss
from loops_mock.model import Activations, Gradient, Policy

_LARGEST: Final = float(np.finfo(np.float32).max)

_MAX_POSITIONS: Final = 4096
"""Rows are taken together up to so many positions; a longer row goes alone."""


@final
@dataclass(frozen=True, slots=True)
class RowResult:
    """One row after its forward pass.

    Attributes:
        row: the row.
        activations: of its pass.
        softmax: of every token at every position, [N, vocab].
        logprobs: of the targets, in their shape; whatever where not scored.
        elementwise: what `compute` gave for each target, in their shape; 0 where not active.
    """

    row: Row
    activations: Activations
    softmax: Softmax
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
    policy: Policy, rows: Sequence[Row], loss: ExactLoss, settings: LossSettings
) -> PassResult:
    """Return the rows' losses and logprobs.

    Args:
        policy: the weights.
        rows: at least one, and a multiple of the loss's `rows_per_term`.
        loss: what is summed.
        settings: the loss's, completed.

    Raises:
        UsageError: a loss or its derivative is beyond float32.
    """
    results = [
        result
        for together in _batches(rows)
        for result in _run_rows(policy, together, loss, settings)
    ]
    sums = [math.fsum(result.elementwise.reshape(-1).tolist()) for result in results]
    function = loss.function
    if function.combine is None or loss.combine_derivative is None:
        return PassResult(results, math.fsum(sums), [1.0] * len(sums))
    with np.errstate(over="ignore", invalid="ignore"):
        grouped = np.asarray(sums).reshape(-1, function.rows_per_term)
        terms = function.combine(grouped, settings)
        slopes = loss.combine_derivative(grouped, settings).reshape(-1)
    _check_size(terms, function.name)
    _check_size(slopes, function.name)
    return PassResult(results, math.fsum(terms.tolist()), slopes.tolist())


def run_backward(
    policy: Policy,
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
    by_column = d_logprobs.reshape(len(row.tokens), -1)
    targets = row.targets.reshape(len(row.tokens), -1)
    shares = total(by_column) / result.softmax.sums
    d_logits = result.softmax.odds * -shares[:, None]
    positions = np.arange(len(row.tokens))
    for k in range(by_column.shape[1]):
        d_logits[positions, targets[:, k]] += by_column[:, k]
    return policy.backward(result.activations, d_logits)


def add_gradients(left: Gradient, right: Gradient) -> Gradient:
    """Return the sum of two gradients."""
    return {site: values + right[site] for site, values in left.items()}


def _batches(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Yield neighbours that are taken together: rows do not see each other, it only saves time."""
    start, positions = 0, 0
    for number, row in enumerate(rows):
        if number > start and positions + len(row.tokens) > _MAX_POSITIONS:
            yield rows[start:number]
            start, positions = number, 0
        positions += len(row.tokens)
    yield rows[start:]


def _run_rows(
    policy: Policy, rows: Sequence[Row], loss: ExactLoss, settings: LossSettings
) -> Iterator[RowResult]:
    windows = [policy.model.windows(row.tokens) for row in rows]
    activations = policy.forward(windows[0] if len(rows) == 1 else np.concatenate(windows))
    everything = softmax(activations.logits)
    start = 0
    for row in rows:
        end = start + len(row.tokens)
        part = Softmax(*(array[start:end] for array in everything))
        yield _make_result(row, activations.part(start, end), part, loss, settings)
        start = end


def _make_result(
    row: Row, activations: Activations, own: Softmax, loss: ExactLoss, settings: LossSettings
) -> RowResult:
    positions = np.arange(len(row.tokens))
    at = positions if row.targets.ndim == 1 else positions[:, None]
    logprobs = own.log_probs[at, row.targets]
    with np.errstate(over="ignore", invalid="ignore"):
        values = loss.function.compute(logprobs, row.inputs, settings)
        elementwise = np.where(row.active, values, 0.0)
    _check_size(elementwise, loss.function.name)
    return RowResult(row, activations, own, logprobs, elementwise)


def _check_size(values: Floats, loss_name: str) -> None:
    """Refuse what float32 does not hold, and NaN."""
    if float(np.abs(values).max()) <= _LARGEST:
        return
    beyond = values[~(np.abs(values) <= _LARGEST)]
    raise UsageError(
        f"data gives {loss_name} a loss or derivative of {beyond[0]}; expected numbers that "
        "float32 holds; look at weights, logprobs, advantages and loss_fn_config",
        field="data",
    )
