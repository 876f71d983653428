"""Time as a seam: every wait and every timestamp goes through a Clock."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Coroutine, Generator
from contextvars import ContextVar
from typing import Any, Final, Protocol, TypeVar, final, runtime_checkable


class Clock(Protocol):
    """Where time comes from; tests bring one that jumps."""

    def now(self) -> float:
        """Return the wall-clock time in seconds since 1970 (UTC); for timestamps only."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back; for waits and durations."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...

    async def sleep_async(self, seconds: float) -> None:
        """Return after `seconds`, without blocking the event loop."""
        ...


T = TypeVar("T")


@runtime_checkable
class DrivingClock(Clock, Protocol):
    """A clock whose time passes only while it turns its event loop: that of a simulated world.

    What blocks a thread in real time is driven here in its asynchronous form, and what would go on
    in a thread of its own is a task on the loop.
    """

    def drive(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns; the loop turns until then."""
        ...

    def spawn(self, work: Coroutine[Any, Any, object], *, name: str) -> None:
        """Let `work` go on whenever the loop turns."""
        ...


@final
class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return the wall-clock time in seconds since 1970 (UTC)."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Return after `seconds`, without blocking the event loop."""
        await asyncio.sleep(seconds)


_TELLING: Final[ContextVar[Clock]] = ContextVar("loops-clock")


def current_clock() -> Clock:
    """Return the clock of a client that is given none: the machine's, outside of `told_by`."""
    return _TELLING.get(None) or SystemClock()


@contextlib.contextmanager
def told_by(clock: Clock) -> Generator[None]:
    """Let clients that this context opens, while the block runs, have `clock` where given none."""
    token = _TELLING.set(clock)
    try:
        yield
    finally:
        _TELLING.reset(token)


@functools.cache
def follows_loop(kind: type[Clock]) -> bool:
    """Return whether clocks of this class show the time of the event loop that runs."""
    return kind is SystemClock or hasattr(kind, "drive")
