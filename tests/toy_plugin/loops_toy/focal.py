"""A loss: written once, for every backend that takes losses from plugins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from loops_core.protocols import Array, LossFunction, LossSetting


def focal(
    target_logprobs: Array, inputs: Mapping[str, Array], settings: Mapping[str, float | bool]
) -> Array:
    """Return -(1 - p)^gamma * log p, elementwise: easy tokens weigh less.

    Source:
        Focal Loss for Dense Object Detection, arXiv:1708.02002, equation 4.
    """
    del inputs
    return -((1.0 - math.e**target_logprobs) ** settings["gamma"]) * target_logprobs


FOCAL: Final = LossFunction(
    name="focal",
    compute=focal,
    source="arXiv:1708.02002, equation 4",
    settings=(LossSetting(name="gamma", default=2.0, minimum=0.0),),
)
