"""A loss of the mock: its values, its derivatives by hand, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from loops_core.protocols import LossFunction, LossSettings
from loops_mock.exact import Floats, exp

Inputs = Mapping[str, Floats]
"""A loss's inputs by name, in the shape of the logprobs."""

Compute = Callable[[Floats, Inputs, LossSettings], Floats]
"""A function of target logprobs, inputs and settings."""

Combine = Callable[[Floats, LossSettings], Floats]
"""A function of row sums, [..., rows_per_term], and settings."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ExactLoss:
    """A loss with its derivatives.

    Attributes:
        function: what every backend has.
        derivative: d `function.compute` / d logprob, elementwise.
        combine_derivative: d `function.combine` / d row sum, in the shape of the sums; None where
            the loss is the sum over positions.
    """

    function: LossFunction
    derivative: Compute
    combine_derivative: Combine | None = None


def log_ratio(target_logprobs: Floats, inputs: Inputs) -> Floats:
    """Return lp - q: logprobs under the trained weights minus those under the sampling ones."""
    return target_logprobs - inputs["logprobs"]


def ratio(target_logprobs: Floats, inputs: Inputs) -> Floats:
    """Return r = exp(lp - q); infinite beyond float64."""
    return exp(log_ratio(target_logprobs, inputs))


def clip(values: Floats, settings: LossSettings) -> Floats:
    """Return the ratio within `clip_low_threshold` and `clip_high_threshold`."""
    low, high = settings["clip_low_threshold"], settings["clip_high_threshold"]
    return np.minimum(np.maximum(values, float(low)), float(high))
