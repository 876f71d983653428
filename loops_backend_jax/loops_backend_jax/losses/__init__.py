"""The losses by name: those of this backend, and those that plugins bring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from loops_backend_jax.losses.cross_entropy import CROSS_ENTROPY
from loops_core.errors import PluginError
from loops_core.protocols import LossFunction

BUILT_IN: tuple[LossFunction, ...] = (CROSS_ENTROPY,)


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
