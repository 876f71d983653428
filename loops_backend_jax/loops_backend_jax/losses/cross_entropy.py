"""Cross-entropy against given targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from loops_core.protocols import Array, LossFunction, LossInput, LossSetting


def cross_entropy(
    target_logprobs: Array, inputs: Mapping[str, Array], settings: Mapping[str, float | bool]
) -> Array:
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


CROSS_ENTROPY: Final = LossFunction(
    name="cross_entropy",
    compute=cross_entropy,
    source="Deep Learning (Goodfellow, Bengio, Courville, 2016), section 5.5",
    inputs=(LossInput(name="weights", required=False),),
    settings=(LossSetting(name="skip_token_normalization", default=False),),
    multiple_targets=True,
    active_input="weights",
)
"""Cross-entropy; a position of weight 0 is not counted."""
