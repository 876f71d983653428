"""The policy gradient, with the importance weight of tokens that other weights sampled."""

from __future__ import annotations

from typing import Final

from loops_core.protocols import LossFunction, LossSettings, loss_specs
from loops_mock.exact import Floats
from loops_mock.losses.exact_loss import ExactLoss, Inputs, ratio


def importance_sampling(target_logprobs: Floats, inputs: Inputs, settings: LossSettings) -> Floats:
    """Return -r A, elementwise, where r = exp(lp - q).

    Args:
        target_logprobs: lp, natural log, [..., N].
        inputs: `logprobs`, q, those under the weights that sampled; `advantages`, A.
        settings: none.

    Source:
        Off-Policy Actor-Critic, arXiv:1205.4839.
    """
    del settings
    return -ratio(target_logprobs, inputs) * inputs["advantages"]


IMPORTANCE_SAMPLING: Final = ExactLoss(
    function=LossFunction.from_spec(loss_specs.IMPORTANCE_SAMPLING, compute=importance_sampling),
    derivative=importance_sampling,  # r is its own derivative
)
"""Importance sampling; a position of advantage 0 is not counted."""
