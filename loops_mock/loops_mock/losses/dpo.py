"""Direct preference optimization: pairs of a chosen and a rejected text."""

from __future__ import annotations

from typing import Final

import numpy as np

from loops_core.protocols import LossFunction, LossSettings, loss_specs
from loops_mock.exact import Floats, exp, log
from loops_mock.losses.exact_loss import ExactLoss, Inputs


def log_odds(target_logprobs: Floats, inputs: Inputs, settings: LossSettings) -> Floats:
    """Return w (lp - ref), elementwise: what a position adds to the log-ratio of its text.

    Args:
        target_logprobs: lp, natural log, [..., N].
        inputs: `ref_logprobs`, those under the reference weights; `weights`, absent = 1.
        settings: none that change it.
    """
    away = target_logprobs - inputs["ref_logprobs"]
    return _derivative(target_logprobs, inputs, settings) * away


def dpo(log_ratios: Floats, settings: LossSettings) -> Floats:
    """Return the loss of each pair, [...], of the log-ratios of its texts, [..., 2], chosen first.

    It is -(1 - e) log sigmoid(m) - e log sigmoid(-m), where m = beta (chosen - rejected).

    Args:
        log_ratios: log of probability under the trained weights over that under the reference.
        settings: `beta`, and e, `label_smoothing`: the chance that a pair is labelled wrongly.

    Source:
        Direct Preference Optimization, arXiv:2305.18290, equation 7; label smoothing as in the
        conservative form, arXiv:2403.00409.
    """
    margin, smoothing = _margin(log_ratios, settings), settings["label_smoothing"]
    return (1.0 - smoothing) * _softplus(-margin) + smoothing * _softplus(margin)


def _derivative(target_logprobs: Floats, inputs: Inputs, settings: LossSettings) -> Floats:
    del settings
    return inputs["weights"] if "weights" in inputs else np.ones_like(target_logprobs)


def _combine_derivative(log_ratios: Floats, settings: LossSettings) -> Floats:
    """Return d loss / d log-ratio, [..., 2]: opposite for chosen and rejected."""
    margin, smoothing = _margin(log_ratios, settings), settings["label_smoothing"]
    slope = smoothing * _sigmoid(margin) - (1.0 - smoothing) * _sigmoid(-margin)
    chosen = settings["beta"] * slope
    return np.stack([chosen, -chosen], axis=-1)


def _margin(log_ratios: Floats, settings: LossSettings) -> Floats:
    return settings["beta"] * (log_ratios[..., 0] - log_ratios[..., 1])


def _softplus(x: Floats) -> Floats:
    """Return log(1 + e^x), without overflow."""
    return np.maximum(x, 0.0) + log(1.0 + exp(-np.abs(x)))


def _sigmoid(x: Floats) -> Floats:
    small = exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


DPO: Final = ExactLoss(
    function=LossFunction.from_spec(loss_specs.DPO, compute=log_odds, combine=dpo),
    derivative=_derivative,
    combine_derivative=_combine_derivative,
)
"""DPO; the datums of a call are chosen, rejected, chosen, rejected and so on."""
