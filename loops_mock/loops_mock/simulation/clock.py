"""A world's clock: time passes where the world's loop turns, and nowhere else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, Final, TypeVar, final

from loops_core import chance
from loops_mock.simulation.drive import Drive
from loops_mock.simulation.loop import VirtualLoop

T = TypeVar("T")

BEGINNING_S: Final = 1_767_225_600.0
"""The wall-clock time at which every world begins: the start of the year 2026."""


@final
class WorldClock:
    """A `DrivingClock` of a virtual loop; what it drives draws its ids from the world's chance."""

    def __init__(self, loop: VirtualLoop, rng: random.Random) -> None:
        """Show the loop's time."""
        self._loop = loop
        self._rng = rng
        self._ahead_s = BEGINNING_S
        self._aside: set[asyncio.Task[object]] = set()

    def now(self) -> float:
        """Return the wall-clock time, which `jump` changes."""
        return self._ahead_s + self._loop.time()

    def monotonic(self) -> float:
        """Return the seconds since the world began."""
        return self._loop.time()

    def sleep(self, seconds: float) -> None:
        """Let so much time pass; raises `UsageError` where a loop runs on this thread."""
        self.drive(self.sleep_async(seconds))

    async def sleep_async(self, seconds: float) -> None:
        """Return when so much time has passed."""
        await self._loop.sleep(seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock; waits are not changed by it."""
        self._ahead_s += seconds

    def drive(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns; time passes until then.

        Raises:
            UsageError: another thread asks, a loop runs on this one, or nothing is left to happen.
        """
        self._loop.enter(work)
        try:
            with chance.drawn_from(self._rng):
                return Drive(self._loop, work).run()
        finally:
            self._loop.leave()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what `drive` does, for work that wants to be a task."""
        with chance.drawn_from(self._rng):
            result: T = self._loop.run_until_complete(work)
        return result

    def spawn(self, work: Coroutine[Any, Any, object], *, name: str) -> None:
        """Let `work` go on whenever the loop turns."""
        with chance.drawn_from(self._rng):
            task = self._loop.create_task(work, name=name)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)
