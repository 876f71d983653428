"""An operation log in this process: nothing outlives it, and nothing is waited for."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TypeVar, final

from loops_core.clock import Clock
from loops_core.errors import LoopsError, ServerShutdownError
from loops_core.types.operation import OperationKind
from loops_core.worker.entries import (
    Appended,
    Cancelled,
    Outcome,
    StoredEntry,
    body_digest,
    make_cancelled,
)
from loops_core.worker.lifecycle import EntryState

T = TypeVar("T")


@dataclass(slots=True)
class _Entry:
    """What the log knows of an operation.

    Attributes:
        digest: what a repeat of the submit has to equal.
        outcome: where it is and, until that expires, what it ended with.
    """

    digest: bytes
    outcome: Outcome


@final
class MemoryLog:
    """An `OperationLog` of a run that has no directory; see there for what each call promises.

    A body is dropped as soon as its entry has ended: there is no replay.
    """

    def __init__(self, *, clock: Clock) -> None:
        """Start empty."""
        self._clock = clock
        self._lock = threading.Lock()
        self._sequence = 0
        self._closed = False
        self._entries: dict[str, _Entry] = {}
        self._queued: OrderedDict[str, StoredEntry] = OrderedDict()
        self._running: StoredEntry | None = None
        self._with_result: deque[str] = deque()  # ids in the order of their ends, as the next one
        self._without_result: deque[str] = deque()

    def append(self, kind: OperationKind, body: bytes, operation_id: str) -> Future[Appended]:
        """Return a future that has settled: the entry is in the log, new or from before."""
        digest = body_digest(kind, body)
        with self._lock:
            self._check_open()
            known = self._entries.get(operation_id)
            if known is not None:
                return _settled(_repeated(known, digest))
            self._sequence += 1
            stored = StoredEntry(
                sequence=self._sequence,
                operation_id=operation_id,
                kind=kind.value,
                body=body,
                started_s=0.0,
                attempts=0,
                num_bytes=len(body),
            )
            waiting = Outcome(operation_id=operation_id, kind=kind.value, state=EntryState.QUEUED)
            self._entries[operation_id] = _Entry(digest, waiting)
            self._queued[operation_id] = stored
        return _settled(Appended(is_new=True, is_same=True))

    def recall(
        self, kind: OperationKind, body: bytes, operation_id: str
    ) -> Future[Appended | None]:
        """Return a settled future of what `append` would answer for an entry that is there."""
        with self._lock:
            self._check_open()
            known = self._entries.get(operation_id)
        digest = body_digest(kind, body)
        return _settled(None if known is None else _repeated(known, digest))

    def take(self) -> StoredEntry | None:
        """Return the oldest entry that is to run, running from now on; None = none waits."""
        with self._lock:
            self._check_open()
            return self._take()

    def finish(self, sequence: int, outcome: Outcome, *, take: bool) -> StoredEntry | None:
        """End the running entry and, if `take`, return the next one as `take()` does.

        Raises:
            LoopsError: the entry is not running.
        """
        with self._lock:
            self._check_open()
            if self._running is not None and self._running.sequence == sequence:
                self._running = None
                self._end(self._entries[outcome.operation_id], outcome)
            else:
                known = self._entries.get(outcome.operation_id)
                if known is None or known.outcome.state != outcome.state:
                    raise LoopsError(
                        f"log entry {sequence} cannot become {outcome.state}: it is not running"
                    )
            return self._take() if take else None

    def cancel(self, operation_id: str) -> Cancelled | None:
        """End an entry that still waits; None = there is no such entry."""
        with self._lock:
            self._check_open()
            entry = self._entries.get(operation_id)
            if entry is None:
                return None
            stored = self._queued.pop(operation_id, None)
            if stored is None:
                return Cancelled(entry.outcome, was_queued=False, num_bytes=0)
            ended = make_cancelled(operation_id, finished_s=self._clock.now())
            self._end(entry, replace(ended, kind=stored.kind))
            return Cancelled(entry.outcome, was_queued=True, num_bytes=stored.num_bytes)

    def find(self, operation_id: str) -> Future[Outcome | None]:
        """Return a settled future of what is known of the entry; None = nothing is."""
        with self._lock:
            self._check_open()
            entry = self._entries.get(operation_id)
        return _settled(None if entry is None else entry.outcome)

    def count_queued(self) -> tuple[int, int]:
        """Return how many entries wait, and the bytes of their bodies."""
        with self._lock:
            self._check_open()
            return len(self._queued), sum(stored.num_bytes for stored in self._queued.values())

    def expire(self, *, results_kept_s: float, keys_kept_s: float) -> None:
        """Drop results, and later keys, of entries that ended longer ago than this."""
        now_s = self._clock.now()
        with self._lock:
            self._check_open()
            while self._has_ended(self._with_result, before_s=now_s - results_kept_s):
                operation_id = self._with_result.popleft()
                entry = self._entries[operation_id]
                entry.outcome = replace(entry.outcome, result=None, error=None)
                self._without_result.append(operation_id)
            while self._has_ended(self._without_result, before_s=now_s - keys_kept_s):
                del self._entries[self._without_result.popleft()]

    def close(self) -> None:
        """Forget everything; may be called twice."""
        with self._lock:
            self._closed = True
            self._entries.clear()
            self._queued.clear()
            self._with_result.clear()
            self._without_result.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise ServerShutdownError("the operation log is closed")

    def _take(self) -> StoredEntry | None:
        if self._running is None and self._queued:
            operation_id, stored = self._queued.popitem(last=False)
            self._running = replace(stored, started_s=self._clock.now(), attempts=1)
            entry = self._entries[operation_id]
            entry.outcome = replace(entry.outcome, state=EntryState.RUNNING)
        return self._running

    def _end(self, entry: _Entry, outcome: Outcome) -> None:
        entry.outcome = outcome
        self._with_result.append(outcome.operation_id)

    def _has_ended(self, ended: deque[str], *, before_s: float) -> bool:
        """Return whether the first of the entries ended by then; they lie in that order."""
        if not ended:
            return False
        finished_s = self._entries[ended[0]].outcome.finished_s
        return finished_s is not None and finished_s <= before_s


def _repeated(known: _Entry, digest: bytes) -> Appended:
    return Appended(is_new=False, is_same=known.digest == digest)


def _settled(value: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(value)
    return future
