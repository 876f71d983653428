"""Divergence proximal policy optimization: tokens that moved too far pass no policy gradient."""

from __future__ import annotations

from typing import Final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from loops_backend_jax.losses.inputs import LossInputs, LossScalars, log_ratio, ratio
from loops_core.protocols import LossFunction, loss_specs


def dppo(
    target_logprobs: Float[Array, "*shape"], inputs: LossInputs, settings: LossScalars
) -> Float[Array, "*shape"]:
    """Return -keep adv_tau A r + kl_tau (lp - q)^2, elementwise, with r = exp(lp - q).

    With d = exp(lp) - exp(q), keep is 0 where A > 0 and d > dppo_mask_high, and where A < 0 and
    d < -dppo_mask_low, else 1. The penalty is that of all positions, kept or not.

    Args:
        target_logprobs: lp, natural log, [..., N].
        inputs: `logprobs`, q, of the weights that sampled; `advantages`, A.
        settings: `dppo_mask_high`, `dppo_mask_low`, `adv_tau`, `kl_tau`.

    Source:
        Rethinking the Trust Region in LLM Reinforcement Learning, arXiv:2602.04879: the binary
        total-variation mask, here with a penalty on the squared log-ratio.
    """
    advantages, away = inputs["advantages"], log_ratio(target_logprobs, inputs)
    moved = jax.lax.stop_gradient(jnp.exp(target_logprobs) - jnp.exp(inputs["logprobs"]))
    too_high = (advantages > 0) & (moved > settings["dppo_mask_high"])
    too_low = (advantages < 0) & (moved < -settings["dppo_mask_low"])
    gain = settings["adv_tau"] * advantages * ratio(target_logprobs, inputs)
    return settings["kl_tau"] * away * away - jnp.where(too_high | too_low, 0.0, gain)


DPPO: Final = LossFunction.from_spec(loss_specs.DPPO, compute=dppo)
"""DPPO; a position of advantage 0 is not counted, and has no penalty."""
