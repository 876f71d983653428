"""Losses that plugins bring: their derivatives are differences, since nobody wrote them down."""

from __future__ import annotations

from typing import Final

import numpy as np

from loops_core.protocols import LossFunction, LossSettings
from loops_mock.exact import Floats
from loops_mock.losses.exact_loss import Combine, ExactLoss, Inputs

_STEP: Final = 2.0**-17
"""About the cube root of float64's precision, where the errors of a central difference balance."""


def make_plugin_loss(function: LossFunction) -> ExactLoss:
    """Return a plugin's loss with derivatives by central differences, good to about 1e-10.

    Its bytes are as repeatable as what the plugin computes. A gradient that the plugin stops, as
    JAX can, is not stopped here.
    """

    def derivative(target_logprobs: Floats, inputs: Inputs, settings: LossSettings) -> Floats:
        above, below = (
            np.asarray(function.compute(target_logprobs + step, inputs, settings), np.float64)
            for step in (_STEP, -_STEP)
        )
        return (above - below) / (2.0 * _STEP)

    return ExactLoss(
        function=function,
        derivative=derivative,
        combine_derivative=None if function.combine is None else _differentiate(function),
    )


def _differentiate(function: LossFunction) -> Combine:
    def combine_derivative(sums: Floats, settings: LossSettings) -> Floats:
        assert function.combine is not None
        slopes = np.zeros_like(sums)
        for place in range(sums.shape[-1]):
            nudge = np.zeros(sums.shape[-1])
            nudge[place] = _STEP
            above, below = (
                np.asarray(function.combine(sums + sign * nudge, settings), np.float64)
                for sign in (1.0, -1.0)
            )
            slopes[..., place] = (above - below) / (2.0 * _STEP)
        return slopes

    return combine_derivative
