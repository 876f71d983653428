"""Turns: calls of one client are sent one after another, in the order in which they were made."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from typing import final

from loops_core.client.drivers import Flow, Signal, Wait, running_loop
from loops_core.clock import Clock
from loops_core.errors import BusyError


@final
class Turn:
    """A place in the queue.

    Attributes:
        first_seq_id: the first of the numbers that this call's operations carry.
        ready: happens when everybody ahead has left.
        loop: the event loop that runs on the caller's thread, if one does.
    """

    __slots__ = ("first_seq_id", "loop", "ready")

    def __init__(self) -> None:
        self.first_seq_id = 0
        self.ready = Signal()
        self.loop = running_loop()


@final
class Turnstile:
    """Lets calls pass one at a time, from any mix of threads and event loops.

    Use: `turn = Turn()`, then in a `try` block `yield from wait(turn, ...)` and whatever has to be
        done
    alone, and `leave(turn)` in its `finally` block. A place that is given up early closes the gap.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._queue: OrderedDict[Turn, None] = OrderedDict()
        self._next_seq_id = 1

    def wait(self, turn: Turn, *, count: int, timeout_s: float) -> Flow[None]:
        """Take a place for `count` operations, and return when everybody ahead has left.

        Raises:
            UsageError: this thread runs the event loop on which somebody ahead waits.
            BusyError: nobody's turn ended for `timeout_s` seconds.
        """
        loops = self._join(turn, count)
        deadline = self._clock.monotonic() + timeout_s
        while not self._is_first(turn):
            left_s = deadline - self._clock.monotonic()
            if left_s <= 0:
                raise BusyError(
                    f"calls made before this one were still being sent after {timeout_s:g} s: "
                    "nothing was submitted; try again later"
                )
            yield Wait(turn.ready, left_s, loops)

    def leave(self, turn: Turn) -> None:
        """Give the place up, whether it was reached or not; the next one moves up."""
        with self._lock:
            self._queue.pop(turn, None)
            first = next(iter(self._queue), None)
        if first is not None:
            first.ready.set()

    def _join(self, turn: Turn, count: int) -> frozenset[asyncio.AbstractEventLoop]:
        with self._lock:
            ahead = {other.loop for other in self._queue}
            turn.first_seq_id = self._next_seq_id
            self._next_seq_id += count
            self._queue[turn] = None
        return frozenset(loop for loop in ahead if loop is not None)

    def _is_first(self, turn: Turn) -> bool:
        with self._lock:
            return next(iter(self._queue)) is turn
