"""The clipped surrogate of proximal policy optimization."""

from __future__ import annotations

from typing import Final

import jax.numpy as jnp
from jaxtyping import Array, Float

from loops_backend_jax.losses.inputs import LossInputs, LossScalars, clip_ratio, ratio
from loops_core.protocols import LossFunction, loss_specs


def ppo(
    target_logprobs: Float[Array, "*shape"], inputs: LossInputs, settings: LossScalars
) -> Float[Array, "*shape"]:
    """Return -min(r A, clip(r, low, high) A), elementwise, with r = exp(lp - q).

    Where both are equal the gradient is that of r A: within the bounds, and on them.

    Args:
        target_logprobs: lp, natural log, [..., N].
        inputs: `logprobs`, q, of the weights that sampled; `advantages`, A.
        settings: `clip_low_threshold` and `clip_high_threshold`, bounds of r itself.

    Source:
        Proximal Policy Optimization Algorithms, arXiv:1707.06347, equation 7.
    """
    r, advantages = ratio(target_logprobs, inputs), inputs["advantages"]
    free, clipped = r * advantages, clip_ratio(r, settings) * advantages
    return -jnp.where(free <= clipped, free, clipped)


PPO: Final = LossFunction.from_spec(loss_specs.PPO, compute=ppo)
"""PPO; a position of advantage 0 is not counted."""
