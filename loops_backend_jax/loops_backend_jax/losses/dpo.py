"""Direct preference optimization: pairs of a chosen and a rejected text."""

from __future__ import annotations

from typing import Final

import jax
from jaxtyping import Array, Float

from loops_backend_jax.losses.inputs import LossInputs, LossScalars
from loops_core.protocols import LossFunction, loss_specs


def log_odds(
    target_logprobs: Float[Array, "*shape"], inputs: LossInputs, settings: LossScalars
) -> Float[Array, "*shape"]:
    """Return w (lp - ref), elementwise: what a position adds to the log-ratio of its text.

    Args:
        target_logprobs: lp, natural log, [..., N].
        inputs: `ref_logprobs`, of the reference weights; `weights`, absent: 1.
        settings: none that change it.
    """
    del settings
    away = target_logprobs - inputs["ref_logprobs"]
    weights = inputs.get("weights")
    return away if weights is None else weights * away


def dpo(log_ratios: Float[Array, "*pairs 2"], settings: LossScalars) -> Float[Array, "*pairs"]:
    """Return each pair's loss: -(1 - e) log sigmoid(m) - e log sigmoid(-m).

    m = beta (chosen - rejected).

    Args:
        log_ratios: log of probability under the trained weights over that under the reference, of
            the chosen and of the rejected text.
        settings: `beta`, and e, `label_smoothing`: the chance that a pair is labelled wrongly.

    Source:
        Direct Preference Optimization, arXiv:2305.18290, equation 7; label smoothing as in the
        conservative form, arXiv:2403.00409.
    """
    margin = settings["beta"] * (log_ratios[..., 0] - log_ratios[..., 1])
    smoothing = settings["label_smoothing"]
    return (1.0 - smoothing) * jax.nn.softplus(-margin) + smoothing * jax.nn.softplus(margin)


DPO: Final = LossFunction.from_spec(loss_specs.DPO, compute=log_odds, combine=dpo)
"""DPO; the datums of a call are chosen, rejected, chosen, rejected and so on."""
