"""Cross-entropy against given targets."""

from __future__ import annotations

from typing import Final

from jaxtyping import Array, Float

from loops_backend_jax.losses.inputs import LossInputs, LossScalars
from loops_core.protocols import LossFunction, loss_specs


def cross_entropy(
    target_logprobs: Float[Array, "*shape"], inputs: LossInputs, settings: LossScalars
) -> Float[Array, "*shape"]:
    """Return -weights * target_logprobs, elementwise.

    Args:
        target_logprobs: natural log, [..., N] or [..., N, K].
        inputs: `weights`, in the same shape; any finite numbers, as they are. Absent: 1.
        settings: none that change the values; `skip_token_normalization` speaks to `optim_step`.

    Source:
        Deep Learning (Goodfellow, Bengio, Courville, 2016), section 5.5, with a weight a term.
    """
    del settings
    weights = inputs.get("weights")
    return -target_logprobs if weights is None else -target_logprobs * weights


CROSS_ENTROPY: Final = LossFunction.from_spec(loss_specs.CROSS_ENTROPY, compute=cross_entropy)
"""Cross-entropy; a position of weight 0 is not counted."""
