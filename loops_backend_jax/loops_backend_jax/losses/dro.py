"""Direct reward optimization: a log-likelihood with a quadratic pull to the sampling weights."""

from __future__ import annotations

from typing import Final

from jaxtyping import Array, Float

from loops_backend_jax.losses.inputs import LossInputs, LossScalars, log_ratio
from loops_core.protocols import LossFunction, loss_specs


def dro(
    target_logprobs: Float[Array, "*shape"], inputs: LossInputs, settings: LossScalars
) -> Float[Array, "*shape"]:
    """Return -(lp A - beta (lp - q)^2 / 2), elementwise.

    Args:
        target_logprobs: lp, natural log, [..., N].
        inputs: `logprobs`, q, of the weights that sampled; `advantages`, A.
        settings: `beta`, the strength of the pull.

    Source:
        Offline Regularised Reinforcement Learning for LLM Alignment, arXiv:2405.19107.
    """
    away = log_ratio(target_logprobs, inputs)
    return 0.5 * settings["beta"] * away * away - target_logprobs * inputs["advantages"]


DRO: Final = LossFunction.from_spec(loss_specs.DRO, compute=dro)
"""DRO; a position of advantage 0 is not counted, and has no pull."""
