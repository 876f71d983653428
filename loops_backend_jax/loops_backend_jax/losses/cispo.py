"""Clipped importance-sampling policy optimization: the weight is clipped, no token is dropped."""

from __future__ import annotations

from typing import Final

from jaxtyping import Array, Float

from loops_backend_jax.losses.inputs import LossInputs, LossScalars, clip_ratio, ratio
from loops_core.protocols import LossFunction, loss_specs


def cispo(
    target_logprobs: Float[Array, "*shape"], inputs: LossInputs, settings: LossScalars
) -> Float[Array, "*shape"]:
    """Return -sg(clip(r, low, high)) lp A, elementwise, with r = exp(lp - q); sg: no gradient.

    Args:
        target_logprobs: lp, natural log, [..., N].
        inputs: `logprobs`, q, of the weights that sampled; `advantages`, A.
        settings: `clip_low_threshold` and `clip_high_threshold`, bounds of r itself.

    Source:
        MiniMax-M1, arXiv:2506.13585, section 3.1.
    """
    weight = clip_ratio(ratio(target_logprobs, inputs), settings)
    return -weight * target_logprobs * inputs["advantages"]


CISPO: Final = LossFunction.from_spec(loss_specs.CISPO, compute=cispo)
"""CISPO; a position of advantage 0 is not counted."""
