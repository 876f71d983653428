"""Clipped importance sampling: the weight is clipped, the gradient goes through the logprob."""

from __future__ import annotations

from typing import Final

from loops_core.protocols import LossFunction, LossSettings, loss_specs
from loops_mock.exact import Floats
from loops_mock.losses.exact_loss import ExactLoss, Inputs, clip, ratio


def cispo(target_logprobs: Floats, inputs: Inputs, settings: LossSettings) -> Floats:
    """Return -sg(clip(r, low, high)) lp A, elementwise, where r = exp(lp - q).

    Args:
        target_logprobs: lp, natural log, [..., N].
        inputs: `logprobs`, q, those under the weights that sampled; `advantages`, A.
        settings: `clip_low_threshold` and `clip_high_threshold`, bounds of the ratio itself.

    Source:
        MiniMax-M1, arXiv:2506.13585, section 3.1.
    """
    return _derivative(target_logprobs, inputs, settings) * target_logprobs


def _derivative(target_logprobs: Floats, inputs: Inputs, settings: LossSettings) -> Floats:
    """Return -clip(r, low, high) A: no gradient passes through the ratio."""
    return -clip(ratio(target_logprobs, inputs), settings) * inputs["advantages"]


CISPO: Final = ExactLoss(
    function=LossFunction.from_spec(loss_specs.CISPO, compute=cispo), derivative=_derivative
)
"""CISPO; a position of advantage 0 is not counted."""
