"""The losses by name: those of this backend, and those that plugins bring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from loops_backend_jax.losses.cispo import CISPO
from loops_backend_jax.losses.cross_entropy import CROSS_ENTROPY
from loops_backend_jax.losses.dpo import DPO
from loops_backend_jax.losses.dppo import DPPO
from loops_backend_jax.losses.dro import DRO
from loops_backend_jax.losses.importance_sampling import IMPORTANCE_SAMPLING
from loops_backend_jax.losses.ppo import PPO
from loops_core.errors import PluginError
from loops_core.protocols import LossFunction

BUILT_IN: tuple[LossFunction, ...] = (
    CROSS_ENTROPY,
    IMPORTANCE_SAMPLING,
    PPO,
    CISPO,
    DRO,
    DPO,
    DPPO,
)


def make_losses(from_plugins: Iterable[LossFunction] = ()) -> Mapping[str, LossFunction]:
    """Return every loss by its name.

    Raises:
        PluginError: two losses have one name.
    """
    losses: dict[str, LossFunction] = {}
    for loss in (*BUILT_IN, *from_plugins):
        if loss.name in losses:
            raise PluginError(
                f"two losses are named {loss.name!r}; expected one; rename that of a plugin"
            )
        losses[loss.name] = loss
    return losses
