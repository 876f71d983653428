"""The heartbeat: a sign of life for trainers that shut down when nobody asks them anything."""

from __future__ import annotations

import logging
import threading
from typing import Final, final

from loops_core.client.drivers import Driver, send
from loops_core.errors import LoopsError
from loops_core.types.deployment import Empty
from loops_core.types.routes import Call

_log = logging.getLogger(__name__)

_WARN_AFTER: Final = 5
"""Failures in a row after which the user hears of it, once."""


@final
class Heartbeat:
    """Sends a call at intervals on a daemon thread, until it is stopped.

    A failure is no reason to stop: the next beat may arrive, and whoever waits for an operation
    hears of a lost trainer by that.
    """

    def __init__(self, driver: Driver, call: Call[Empty], *, period_s: float) -> None:
        """Begin; the first beat is one period away."""
        self._driver = driver
        self._call = call
        self._period_s = period_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loops-heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end; may be called twice."""
        self._stopped.set()

    def _run(self) -> None:
        num_failures = 0
        while not self._stopped.wait(self._period_s):
            try:
                self._driver.run(send(self._call))
            except LoopsError as error:
                num_failures += 1
                if num_failures == _WARN_AFTER and not self._stopped.is_set():
                    _log.warning(
                        "the trainer at %s left %d signs of life unanswered, it may shut down: %s",
                        self._call.base_url,
                        num_failures,
                        error,
                    )
            else:
                num_failures = 0
