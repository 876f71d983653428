"""The clipped surrogate of proximal policy optimization."""

from __future__ import annotations

from typing import Final

import numpy as np

from loops_core.protocols import LossFunction, LossSettings, loss_specs
from loops_mock.exact import Floats
from loops_mock.losses.exact_loss import ExactLoss, Inputs, clip, ratio


def ppo(target_logprobs: Floats, inputs: Inputs, settings: LossSettings) -> Floats:
    """Return -min(r A, clip(r, low, high) A), elementwise, where r = exp(lp - q).

    Args:
        target_logprobs: lp, natural log, [..., N].
        inputs: `logprobs`, q, those under the weights that sampled; `advantages`, A.
        settings: `clip_low_threshold` and `clip_high_threshold`, bounds of the ratio itself.

    Source:
        Proximal Policy Optimization Algorithms, arXiv:1707.06347, equation 7.
    """
    free, clipped = _objectives(target_logprobs, inputs, settings)
    return -np.minimum(free, clipped)


def _derivative(target_logprobs: Floats, inputs: Inputs, settings: LossSettings) -> Floats:
    """Return -r A where that is the smaller objective; the clipped one is constant."""
    free, clipped = _objectives(target_logprobs, inputs, settings)
    return np.where(free <= clipped, -free, 0.0)


def _objectives(
    target_logprobs: Floats, inputs: Inputs, settings: LossSettings
) -> tuple[Floats, Floats]:
    r, advantages = ratio(target_logprobs, inputs), inputs["advantages"]
    return r * advantages, clip(r, settings) * advantages


PPO: Final = ExactLoss(
    function=LossFunction.from_spec(loss_specs.PPO, compute=ppo), derivative=_derivative
)
"""PPO; a position of advantage 0 is not counted."""
