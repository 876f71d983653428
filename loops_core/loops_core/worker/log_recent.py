"""What a durable log wrote lately, so that who waits for a result need not ask the disk."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, final

from loops_core.worker.entries import Outcome

_MOST_ENDED: Final = 1024
_MOST_BYTES: Final = 16 * 1024 * 1024


@final
class RecentOutcomes:
    """Where the entries are that this process appended: all that wait, and the last that ended.

    It is told after a commit and by one thread, so that it never says what is not on the disk, nor
    that an entry waits which has ended. What it does not know may be in the log all the same.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self._lock = threading.Lock()
        self._waiting: dict[str, Outcome] = {}
        self._ended: OrderedDict[str, Outcome] = OrderedDict()
        self._num_bytes = 0

    def get(self, operation_id: str) -> Outcome | None:
        """Return where an entry is, and what it ended with; None = ask the log."""
        with self._lock:
            return self._waiting.get(operation_id) or self._ended.get(operation_id)

    def put(self, outcome: Outcome) -> None:
        """Remember where an entry is now."""
        with self._lock:
            self._drop(outcome.operation_id)
            if not outcome.state.is_final:
                self._waiting[outcome.operation_id] = outcome
                return
            self._ended[outcome.operation_id] = outcome
            self._num_bytes += len(outcome.result or b"")
            while len(self._ended) > _MOST_ENDED or self._num_bytes > _MOST_BYTES:
                self._drop(next(iter(self._ended)))

    def forget_ended(self) -> None:
        """Forget what has ended: it may expire."""
        with self._lock:
            self._ended.clear()
            self._num_bytes = 0

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._waiting.clear()
        self.forget_ended()

    def _drop(self, operation_id: str) -> None:
        self._waiting.pop(operation_id, None)
        ended = self._ended.pop(operation_id, None)
        if ended is not None:
            self._num_bytes -= len(ended.result or b"")
