"""The losses of the mock: the protocol's, with values and derivatives that are exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from loops_core.protocols import LossFunction
from loops_mock.losses.cispo import CISPO
from loops_mock.losses.cross_entropy import CROSS_ENTROPY
from loops_mock.losses.dpo import DPO
from loops_mock.losses.dppo import DPPO
from loops_mock.losses.dro import DRO
from loops_mock.losses.exact_loss import ExactLoss
from loops_mock.losses.importance_sampling import IMPORTANCE_SAMPLING
from loops_mock.losses.ppo import PPO

__all__ = ["EXACT_LOSSES", "LOSSES", "ExactLoss"]

_ALL: Final = (CROSS_ENTROPY, IMPORTANCE_SAMPLING, PPO, CISPO, DRO, DPO, DPPO)

EXACT_LOSSES: Final[Mapping[str, ExactLoss]] = {loss.function.name: loss for loss in _ALL}
"""Every loss by name, with its derivatives."""

LOSSES: Final[Mapping[str, LossFunction]] = {
    name: loss.function for name, loss in EXACT_LOSSES.items()
}
"""Every loss by name, as a trainer describes it."""
