"""Divergence proximal policy optimization: tokens that moved too far pass no policy gradient."""

from __future__ import annotations

from typing import Final

import numpy as np

from loops_core.protocols import LossFunction, LossSettings, loss_specs
from loops_mock.exact import Floats, exp
from loops_mock.losses.exact_loss import ExactLoss, Inputs, log_ratio, ratio


def dppo(target_logprobs: Floats, inputs: Inputs, settings: LossSettings) -> Floats:
    """Return -keep adv_tau A r + kl_tau (lp - q)^2, elementwise, where r = exp(lp - q).

    With d = exp(lp) - exp(q), `keep` is 0 where A > 0 and d > dppo_mask_high, and where A < 0 and
    d < -dppo_mask_low, else 1. The second term is that of all positions, kept or not.

    Args:
        target_logprobs: lp, natural log, [..., N].
        inputs: `logprobs`, q, those under the weights that sampled; `advantages`, A.
        settings: `dppo_mask_high`, `dppo_mask_low`, `adv_tau`, `kl_tau`.

    Source:
        Rethinking the Trust Region in LLM Reinforcement Learning, arXiv:2602.04879: the binary
        total-variation mask, here with a penalty on the squared log-ratio.
    """
    away = log_ratio(target_logprobs, inputs)
    return settings["kl_tau"] * (away * away) - _gain(target_logprobs, inputs, settings)


def _derivative(target_logprobs: Floats, inputs: Inputs, settings: LossSettings) -> Floats:
    """Return the derivative; the mask is constant and the gain, r times a constant, its own."""
    pull = 2.0 * settings["kl_tau"] * log_ratio(target_logprobs, inputs)
    return pull - _gain(target_logprobs, inputs, settings)


def _gain(target_logprobs: Floats, inputs: Inputs, settings: LossSettings) -> Floats:
    """Return adv_tau A r where it is kept, else 0."""
    advantages = inputs["advantages"]
    moved = exp(target_logprobs) - exp(inputs["logprobs"])
    too_high = (advantages > 0) & (moved > settings["dppo_mask_high"])
    too_low = (advantages < 0) & (moved < -settings["dppo_mask_low"])
    weighted = settings["adv_tau"] * advantages * ratio(target_logprobs, inputs)
    return np.where(too_high | too_low, 0.0, weighted)


DPPO: Final = ExactLoss(
    function=LossFunction.from_spec(loss_specs.DPPO, compute=dppo), derivative=_derivative
)
"""DPPO; a position of advantage 0 is not counted, and has no penalty."""
