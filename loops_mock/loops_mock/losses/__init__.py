"""The losses of the mock: the protocol's, with values and derivatives that are exact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from loops_core.errors import PluginError
from loops_core.protocols import LossFunction
from loops_mock.losses.cispo import CISPO
from loops_mock.losses.cross_entropy import CROSS_ENTROPY
from loops_mock.losses.dpo import DPO
from loops_mock.losses.dppo import DPPO
from loops_mock.losses.dro import DRO
from loops_mock.losses.exact_loss import ExactLoss
from loops_mock.losses.importance_sampling import IMPORTANCE_SAMPLING
from loops_mock.losses.plugin_loss import make_plugin_loss
from loops_mock.losses.ppo import PPO

__all__ = ["EXACT_LOSSES", "ExactLoss", "make_losses"]

_ALL: Final = (CROSS_ENTROPY, IMPORTANCE_SAMPLING, PPO, CISPO, DRO, DPO, DPPO)

EXACT_LOSSES: Final[Mapping[str, ExactLoss]] = {loss.function.name: loss for loss in _ALL}
"""Every loss of the protocol by name, with its derivatives."""


def make_losses(from_plugins: Iterable[LossFunction] = ()) -> Mapping[str, ExactLoss]:
    """Return every loss by its name: the protocol's, and those that plugins bring.

    Raises:
        PluginError: two losses have one name.
    """
    losses = dict(EXACT_LOSSES)
    for function in from_plugins:
        if function.name in losses:
            raise PluginError(
                f"two losses are named {function.name!r}; expected one; rename that of a plugin"
            )
        losses[function.name] = make_plugin_loss(function)
    return losses
