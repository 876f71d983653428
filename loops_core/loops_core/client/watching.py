"""The watcher: settles futures that have callbacks while nobody waits for them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from itertools import islice
from typing import Final, Protocol, final

from loops_core.client.drivers import Driver, Flow
from loops_core.errors import ResultTimeoutError, UsageError

_HOLD_S: Final = 5.0
"""How long the oldest future is waited for before others are looked at, or a close noticed."""

_BATCH: Final = 8
"""How many futures are looked at between two waits for the oldest."""


class Watched(Protocol):
    """What the watcher needs of a future."""

    @property
    def settled(self) -> bool:
        """Tell whether the outcome is known here, without asking the service."""
        ...

    def wait_flow(self, deadline: float, *, patient: bool = True) -> Flow[object]:
        """Return once settled; raises `ResultTimeoutError` at the deadline."""
        ...


@final
class Watcher:
    """Polls the watched futures of one client on a daemon thread, which lives while there are any.

    A trainer works in order of arrival, so the oldest future is waited for; the next few are looked
    at in between, up to the first that is still pending.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._lock = threading.Lock()
        self._futures: OrderedDict[Watched, None] = OrderedDict()
        self._is_running = False
        self._stopped = False

    def watch(self, future: Watched) -> None:
        """Have the future settled as soon as its result is there; a second time does nothing."""
        with self._lock:
            if self._stopped or future in self._futures:
                return
            self._futures[future] = None
            if self._is_running:
                return
            self._is_running = True
        self._driver.run_aside(self._run(), name="loops-watcher")

    def unsettled(self) -> list[Watched]:
        """Return the watched futures that are not settled, oldest first."""
        with self._lock:
            return [future for future in self._futures if not future.settled]

    def stop(self) -> None:
        """Let the thread end; what is unsettled is not watched any more."""
        with self._lock:
            self._stopped = True
            self._futures.clear()

    def _run(self) -> Flow[None]:
        while batch := self._next_batch():
            is_open = yield from self._settle_some(batch)
            if not is_open:
                self.stop()

    def _next_batch(self) -> list[Watched]:
        """Return the oldest unsettled future and the few behind it; none lets the thread end."""
        with self._lock:
            while self._futures and next(iter(self._futures)).settled:
                self._futures.popitem(last=False)
            if not self._futures:
                self._is_running = False
            return list(islice(self._futures, _BATCH))

    def _settle_some(self, batch: list[Watched]) -> Flow[bool]:
        """Wait for the oldest, then look at the others; False when the client is closed."""
        hold_s = _HOLD_S
        for future in batch:
            deadline = self._driver.clock.monotonic() + hold_s
            try:
                yield from future.wait_flow(deadline, patient=False)
            except ResultTimeoutError:
                if hold_s == 0.0:
                    return True
            except UsageError:
                return False
            hold_s = 0.0
        return True
