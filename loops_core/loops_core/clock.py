"""Time as a seam: every wait and every timestamp goes through a Clock."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol, final


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
