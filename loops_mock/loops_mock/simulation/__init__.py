"""A world under one seed: client, transport, worker and clock on virtual time, and its faults."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from loops_mock.simulation.asgi import FaultyApp
    from loops_mock.simulation.durations import Durations
    from loops_mock.simulation.faults import FaultPlan
    from loops_mock.simulation.world import World

__all__ = ["Durations", "FaultPlan", "FaultyApp", "World"]

_HOMES: Final = {
    "Durations": "durations",
    "FaultPlan": "faults",
    "FaultyApp": "asgi",
    "World": "world",
}


def __getattr__(name: str) -> object:
    """Load a name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
