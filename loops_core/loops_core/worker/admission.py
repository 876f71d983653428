"""Room for entries that wait: how many may, and what a submit does when there is none."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import final

from loops_core.clock import Clock
from loops_core.errors import ServerShutdownError
from loops_core.worker.waits import hold


@final
class _Place:
    """A place in the line of those who wait for room."""

    __slots__ = ("is_granted", "num_bytes", "woken")

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        self.is_granted = False
        self.woken: Future[None] = Future()


@final
class Room:
    """A bound on the number of waiting entries and on the bytes of their bodies; thread-safe.

    Who waits, thread or event loop, stands in one line: what is given back goes to the first, as
    soon as it is enough for that one, so that a large body is not passed by for ever.
    """

    def __init__(self, *, max_entries: int, max_bytes: int, clock: Clock) -> None:
        """Start empty."""
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._line: OrderedDict[_Place, None] = OrderedDict()
        self._num_entries = 0
        self._num_bytes = 0
        self._closed_by: str | None = None

    def reserve(self, num_bytes: int, *, wait_s: float) -> bool:
        """Return whether there is room, taken from now on; waits for it at most `wait_s` seconds.

        Raises:
            ServerShutdownError: the queue is closing.
        """
        if self._take(num_bytes):
            return True
        if wait_s <= 0:
            return False
        place = self._stand(num_bytes)
        try:
            place.woken.result(wait_s)
        except TimeoutError:
            return self._leave(place)
        except BaseException:
            self._give_up(place)
            raise
        return self._leave(place)

    async def reserve_async(self, num_bytes: int, *, wait_s: float) -> bool:
        """Do what `reserve` does without blocking the event loop or a thread; may be cancelled."""
        if self._take(num_bytes):
            return True
        if wait_s <= 0:
            return False
        place = self._stand(num_bytes)
        try:
            if not place.woken.done():
                await hold(asyncio.wrap_future(place.woken), wait_s, self._clock)
        except BaseException:
            self._give_up(place)
            raise
        return self._leave(place)

    def fill(self, num_entries: int, num_bytes: int) -> None:
        """Count entries that wait already, also over the bound: they were accepted before."""
        with self._lock:
            self._num_entries += num_entries
            self._num_bytes += num_bytes

    def release(self, num_bytes: int) -> None:
        """Give back the room of one entry."""
        with self._lock:
            self._num_entries -= 1
            self._num_bytes -= num_bytes
            granted = self._grant()
        _wake(granted)

    def load(self) -> tuple[int, int]:
        """Return how many entries wait, and the bytes of their bodies."""
        with self._lock:
            return self._num_entries, self._num_bytes

    def close(self, reason: str) -> None:
        """Refuse everybody from now on, for the first reason given."""
        with self._lock:
            self._closed_by = self._closed_by or reason
            refused = list(self._line)
            self._line.clear()
        _wake(refused)

    def _take(self, num_bytes: int) -> bool:
        """Return whether there is room for somebody who does not stand in the line."""
        with self._lock:
            self._check_open()
            if self._line or not self._fits(num_bytes):
                return False
            self._num_entries += 1
            self._num_bytes += num_bytes
        return True

    def _stand(self, num_bytes: int) -> _Place:
        """Return a place at the end of the line, which may have its room already."""
        place = _Place(num_bytes)
        with self._lock:
            self._check_open()
            self._line[place] = None
            granted = self._grant()
        _wake(granted)
        return place

    def _leave(self, place: _Place) -> bool:
        """Return whether the place has got its room; it stands in the line no longer.

        Raises:
            ServerShutdownError: the queue was closed before it got any.
        """
        with self._lock:
            if place.is_granted:
                return True
            self._line.pop(place, None)
            granted = self._grant()  # it may have been in the way of smaller ones
        _wake(granted)
        with self._lock:
            self._check_open()
        return False

    def _give_up(self, place: _Place) -> None:
        """Leave the line for a caller that was interrupted; room that it got goes to the next."""
        with contextlib.suppress(ServerShutdownError):
            if self._leave(place):
                self.release(place.num_bytes)

    def _grant(self) -> list[_Place]:
        """Give room to the first in the line, as far as it goes; return who has to be woken."""
        granted: list[_Place] = []
        while self._line and self._fits(next(iter(self._line)).num_bytes):
            place, _ = self._line.popitem(last=False)
            self._num_entries += 1
            self._num_bytes += place.num_bytes
            place.is_granted = True
            granted.append(place)
        return granted

    def _check_open(self) -> None:
        if self._closed_by is not None:
            raise ServerShutdownError(f"{self._closed_by}: nothing more is accepted")

    def _fits(self, num_bytes: int) -> bool:
        return (
            self._num_entries < self._max_entries and self._num_bytes + num_bytes <= self._max_bytes
        )


def _wake(places: list[_Place]) -> None:
    for place in places:
        place.woken.set_result(None)
