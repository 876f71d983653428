"""A clock on which waiting takes no time."""

from __future__ import annotations

import threading
import time
from typing import final


@final
class SkippingClock:
    """The machine's clock, set forward by every sleep in place of sleeping; thread-safe.

    Attributes:
        naps: how long was slept, each time.
    """

    def __init__(self) -> None:
        self.naps: list[float] = []
        self._skipped_s = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        return time.time() + self._skipped_s

    def monotonic(self) -> float:
        return time.monotonic() + self._skipped_s

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.naps.append(seconds)
            self._skipped_s += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)
