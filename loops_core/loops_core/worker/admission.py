"""Room for entries that wait: how many may, and what a submit does when there is none."""

from __future__ import annotations

import threading
from typing import final

from loops_core.clock import Clock
from loops_core.errors import ServerShutdownError


@final
class Room:
    """A bound on the number of waiting entries and on the bytes of their bodies; thread-safe."""

    def __init__(self, *, max_entries: int, max_bytes: int, clock: Clock) -> None:
        """Start empty."""
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._changed = threading.Condition()
        self._num_entries = 0
        self._num_bytes = 0
        self._closed_by: str | None = None

    def reserve(self, num_bytes: int, *, wait_s: float) -> bool:
        """Return whether there is room, taken from now on; waits for it at most `wait_s` seconds.

        Raises:
            ServerShutdownError: the queue is closing.
        """
        deadline = self._clock.monotonic() + wait_s
        with self._changed:
            while self._closed_by is None and not self._fits(num_bytes):
                left_s = deadline - self._clock.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(left_s)
            if self._closed_by is not None:
                raise ServerShutdownError(f"{self._closed_by}: nothing more is accepted")
            self._num_entries += 1
            self._num_bytes += num_bytes
        return True

    def fill(self, num_entries: int, num_bytes: int) -> None:
        """Count entries that wait already, also over the bound: they were accepted before."""
        with self._changed:
            self._num_entries += num_entries
            self._num_bytes += num_bytes

    def release(self, num_bytes: int) -> None:
        """Give back the room of one entry."""
        with self._changed:
            self._num_entries -= 1
            self._num_bytes -= num_bytes
            self._changed.notify_all()

    def load(self) -> tuple[int, int]:
        """Return how many entries wait, and the bytes of their bodies."""
        with self._changed:
            return self._num_entries, self._num_bytes

    def close(self, reason: str) -> None:
        """Refuse everybody from now on, for the first reason given."""
        with self._changed:
            self._closed_by = self._closed_by or reason
            self._changed.notify_all()

    def _fits(self, num_bytes: int) -> bool:
        return (
            self._num_entries < self._max_entries and self._num_bytes + num_bytes <= self._max_bytes
        )
