"""What becomes of a call's reply: drawn once, read again and again, or kept by operation."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, Final

from loops_core.types import routes
from loops_core.types.routes import Call
from loops_mock.cassette.tape import RecordedCall

_BY_OPERATION: Final = frozenset({"retrieve", "poll", "cancel"})
_SUBMITS: Final = frozenset(route.name for route in routes.SUBMIT.values())
_DRAWN: Final = frozenset({*_SUBMITS, routes.SAMPLE.name, routes.CREATE_TRAINER.name})
_CHANGES_NOTHING: Final = frozenset({"forward", "forward_backward", "optim_step"})
_CHANGING: Final = frozenset({*_SUBMITS, "create_trainer", "deactivate_run"}) - _CHANGES_NOTHING
"""The others change weights and gradients, which no reading tells."""


class Kind(Enum):
    """What becomes of a reply.

    `DRAWN`: each call of one content has a reply of its own, in the order of the calls.
    `READ`: the reply tells how things are; it is given until the run has moved on.
    `BY_OPERATION`: it belongs to an operation, whoever asks and however often.
    """

    DRAWN = auto()
    READ = auto()
    BY_OPERATION = auto()


def kind_of(call: Call[Any]) -> Kind:
    """Return what becomes of the call's reply."""
    name = call.route.name
    if name in _BY_OPERATION:
        return Kind.BY_OPERATION
    return Kind.DRAWN if name in _DRAWN else Kind.READ


def is_submit(name: str) -> bool:
    """Tell whether the route of this name hands an operation over."""
    return name in _SUBMITS


def is_change(name: str) -> bool:
    """Tell whether an answered call of this route may change what reads say."""
    return name in _CHANGING


def is_drawn(call: RecordedCall) -> bool:
    """Tell whether a recorded call did something: it is answered once."""
    return call.content.route in _DRAWN
