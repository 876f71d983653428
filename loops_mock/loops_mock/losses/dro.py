"""Direct reward optimization: a log-likelihood with a quadratic pull to the sampling weights."""

from __future__ import annotations

from typing import Final

from loops_core.protocols import LossFunction, LossSettings, loss_specs
from loops_mock.exact import Floats
from loops_mock.losses.exact_loss import ExactLoss, Inputs, log_ratio


def dro(target_logprobs: Floats, inputs: Inputs, settings: LossSettings) -> Floats:
    """Return -(lp A - beta (lp - q)^2 / 2), elementwise.

    Args:
        target_logprobs: lp, natural log, [..., N].
        inputs: `logprobs`, q, those under the weights that sampled; `advantages`, A.
        settings: `beta`, the strength of the quadratic term.

    Source:
        Offline Regularised Reinforcement Learning for LLM Alignment, arXiv:2405.19107.
    """
    away = log_ratio(target_logprobs, inputs)
    return 0.5 * settings["beta"] * (away * away) - target_logprobs * inputs["advantages"]


def _derivative(target_logprobs: Floats, inputs: Inputs, settings: LossSettings) -> Floats:
    return settings["beta"] * log_ratio(target_logprobs, inputs) - inputs["advantages"]


DRO: Final = ExactLoss(
    function=LossFunction.from_spec(loss_specs.DRO, compute=dro), derivative=_derivative
)
"""DRO; a position of advantage 0 is not counted, and has no quadratic term."""
