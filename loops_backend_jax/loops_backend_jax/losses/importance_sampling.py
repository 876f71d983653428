"""The policy gradient on tokens that other weights sampled."""

from __future__ import annotations

from typing import Final

from jaxtyping import Array, Float

from loops_backend_jax.losses.inputs import LossInputs, LossScalars, ratio
from loops_core.protocols import LossFunction, loss_specs


def importance_sampling(
    target_logprobs: Float[Array, "*shape"], inputs: LossInputs, settings: LossScalars
) -> Float[Array, "*shape"]:
    """Return -r A, elementwise, with the importance weight r = exp(lp - q).

    Args:
        target_logprobs: lp, natural log, [..., N].
        inputs: `logprobs`, q, of the weights that sampled; `advantages`, A.
        settings: none.

    Source:
        Off-Policy Actor-Critic, arXiv:1205.4839.
    """
    del settings
    return -ratio(target_logprobs, inputs) * inputs["advantages"]


IMPORTANCE_SAMPLING: Final = LossFunction.from_spec(
    loss_specs.IMPORTANCE_SAMPLING, compute=importance_sampling
)
"""Importance sampling; a position of advantage 0 is not counted."""
