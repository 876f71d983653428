"""The losses of the mock backend, each with its derivative by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import numpy as np

from loops_core.protocols import Array, LossFunction, LossInput, LossSetting
from loops_mock.exact import Floats


class Derivative(Protocol):
    """d (elementwise loss) / d (target logprob), elementwise."""

    def __call__(
        self,
        target_logprobs: Floats,
        inputs: Mapping[str, Floats],
        settings: Mapping[str, float | bool],
    ) -> Floats:
        """Return the derivative in the shape of `target_logprobs`; arguments as `compute` has."""
        ...


def cross_entropy(
    target_logprobs: Array, inputs: Mapping[str, Array], settings: Mapping[str, float | bool]
) -> Array:
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


def _cross_entropy_derivative(
    target_logprobs: Floats, inputs: Mapping[str, Floats], settings: Mapping[str, float | bool]
) -> Floats:
    del settings
    return -inputs["weights"] if "weights" in inputs else -np.ones_like(target_logprobs)


SKIP_NORMALIZATION: Final = "skip_token_normalization"
"""The setting that leaves gradients as plain sums at the optimizer step."""

_CROSS_ENTROPY: Final = LossFunction(
    name="cross_entropy",
    compute=cross_entropy,
    source="Deep Learning (Goodfellow, Bengio, Courville, 2016), section 5.5",
    inputs=(LossInput(name="weights", required=False),),
    settings=(LossSetting(name=SKIP_NORMALIZATION, default=False),),
    multiple_targets=True,
    active_input="weights",
)

LOSSES: Final[Mapping[str, LossFunction]] = {_CROSS_ENTROPY.name: _CROSS_ENTROPY}
"""Every loss by name."""

DERIVATIVES: Final[Mapping[str, Derivative]] = {_CROSS_ENTROPY.name: _cross_entropy_derivative}
"""The derivative of every loss by name."""
