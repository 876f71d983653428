"""Cross-entropy against given targets."""

from __future__ import annotations

from typing import Final

import numpy as np

from loops_core.protocols import LossFunction, LossSettings, loss_specs
from loops_mock.exact import Floats
from loops_mock.losses.exact_loss import ExactLoss, Inputs


def cross_entropy(target_logprobs: Floats, inputs: Inputs, settings: LossSettings) -> Floats:
    """Return -weight * logprob, elementwise; a weight may be negative, fractional or zero.

    Args:
        target_logprobs: natural log, [..., N] or [..., N, K].
        inputs: `weights` in the same shape; absent = 1.
        settings: none changes a value; `skip_token_normalization` concerns the optimizer step.

    Source:
        Deep Learning (Goodfellow, Bengio, Courville, 2016), section 5.5; weights multiply.
    """
    del settings
    return -target_logprobs * inputs["weights"] if "weights" in inputs else -target_logprobs


def _derivative(target_logprobs: Floats, inputs: Inputs, settings: LossSettings) -> Floats:
    del settings
    return -inputs["weights"] if "weights" in inputs else np.full_like(target_logprobs, -1.0)


CROSS_ENTROPY: Final = ExactLoss(
    function=LossFunction.from_spec(loss_specs.CROSS_ENTROPY, compute=cross_entropy),
    derivative=_derivative,
)
"""Cross-entropy; a position of weight 0 is not counted."""
