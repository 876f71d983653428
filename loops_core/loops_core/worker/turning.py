"""Turning the worker's loops: each on a thread of its own, or all of them by somebody else.

A loop of the worker is a generator. It yields what it is about to do: to run an entry, to write
an outcome, to step a sampler, or to wait for its bell. Whoever turns it decides when it goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, final

from loops_core.worker.entries import Outcome, StoredEntry
from loops_core.worker.waits import Doorbell


@final
@dataclass(frozen=True, slots=True)
class Idle:
    """There is nothing to do until the bell rings, or `timeout_s` are over; None = no bound."""

    timeout_s: float | None = None


@final
@dataclass(frozen=True, slots=True)
class Drawing:
    """A sampler is about to step; so many requests run on it."""

    num_requests: int


Turns: TypeAlias = Generator[Idle | StoredEntry | Outcome | Drawing, None, None]
"""A loop: yields the entry it is about to run, the outcome it is about to write, or a pause."""


class Turning(Protocol):
    """A loop that was started."""

    def is_alive(self) -> bool:
        """Return whether it has not ended."""
        ...

    def join(self, timeout_s: float, /) -> None:
        """Return when it has ended, or after so many seconds."""
        ...


class Turner(Protocol):
    """Turns loops; a loop is turned by one thread at a time, in the order of its steps."""

    @property
    def is_inline(self) -> bool:
        """Return whether all loops turn on the threads of their callers, so that no thread waits.

        What would wait for the disk on a thread of its own is then done by whoever asks for it.
        """
        ...

    def start(self, turns: Turns, bell: Doorbell, *, name: str) -> Turning:
        """Begin to turn a loop; while it is idle, `bell` wakes it."""
        ...


@final
class ThreadTurner:
    """Gives each loop a daemon thread."""

    @property
    def is_inline(self) -> bool:
        """Return False."""
        return False

    def start(self, turns: Turns, bell: Doorbell, *, name: str) -> Turning:
        """Begin to turn a loop on a new thread."""
        thread = threading.Thread(target=_turn, args=(turns, bell), name=name, daemon=True)
        thread.start()
        return thread


THREADS: Final = ThreadTurner()
"""A thread for each loop."""


def _turn(turns: Turns, bell: Doorbell) -> None:
    for step in turns:
        if type(step) is Idle:
            bell.wait(step.timeout_s)
