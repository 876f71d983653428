"""An operation log in this process: nothing outlives it, and nothing is waited for."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Final, TypeVar, final

from loops_core.clock import Clock
from loops_core.errors import LoopsError, ServerShutdownError, TransportError
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
from loops_core.worker.spill import Piece, Spill

T = TypeVar("T")

_MAX_BYTES: Final = 256 * 1024 * 1024
"""Most bytes of results that one run keeps in memory."""


@dataclass(slots=True)
class _Entry:
    """What the log knows of an operation.

    Attributes:
        sequence: its place in the log.
        kind: which operation it is.
        digest: what a repeat of the submit has to equal.
        num_bytes: the size of its body.
        body: what was submitted, until it has ended.
        state: where it is.
        started_s: when it was taken to be run.
        outcome: what it ended with, without result and error when they have expired; before its
            end where it is, once somebody has asked.
        spilled: where the result lies that memory had no room for.
    """

    sequence: int
    kind: str
    digest: bytes
    num_bytes: int
    body: bytes
    state: EntryState = EntryState.QUEUED
    started_s: float = 0.0
    outcome: Outcome | None = None
    spilled: Piece | None = None


@final
class MemoryLog:
    """An `OperationLog` of a run that has no directory; see there for what each call promises.

    A body is dropped as soon as its entry has ended: there is no replay. Results beyond `max_bytes`
    wait in a temporary file to be read or to expire, the oldest first.
    """

    def __init__(self, *, clock: Clock, max_bytes: int = _MAX_BYTES) -> None:
        """Start empty."""
        self._clock = clock
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._sequence = 0
        self._closed = False
        self._entries: dict[str, _Entry] = {}
        self._queued: OrderedDict[str, _Entry] = OrderedDict()
        self._running: str | None = None
        self._spill = Spill()
        self._in_memory: deque[tuple[str, int]] = deque()  # ids with the sizes of their results
        self._num_bytes = 0
        self._with_result: deque[str] = deque()  # ids in the order of their ends, as the next one
        self._without_result: deque[str] = deque()

    def append(self, kind: OperationKind, body: bytes, operation_id: str) -> Appended:
        """Put an entry into the log, unless it is there from before."""
        digest = body_digest(kind, body)
        with self._lock:
            self._check_open()
            known = self._entries.get(operation_id)
            if known is not None:
                return _repeated(known, digest)
            self._sequence += 1
            entry = _Entry(self._sequence, kind.value, digest, len(body), body)
            self._entries[operation_id] = self._queued[operation_id] = entry
        return _NEW

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
            entry = self._entries.get(outcome.operation_id)
            if entry is not None and self._running == outcome.operation_id:
                self._running = None
                self._end(entry, outcome)
            elif entry is None or entry.state != outcome.state:
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
            was_queued = self._queued.pop(operation_id, None) is not None
            if was_queued:
                ended = make_cancelled(operation_id, finished_s=self._clock.now())
                self._end(entry, replace(ended, kind=entry.kind))
            outcome = self._outcome_of(operation_id, entry)
            return Cancelled(outcome, was_queued, entry.num_bytes if was_queued else 0)

    def peek(self, operation_id: str) -> Outcome | None:
        """Return what is known of the entry; None = nothing is."""
        with self._lock:
            self._check_open()
            entry = self._entries.get(operation_id)
            return None if entry is None else self._outcome_of(operation_id, entry)

    def find(self, operation_id: str) -> Future[Outcome | None]:
        """Return a settled future of what is known of the entry; None = nothing is."""
        return _settled(self.peek(operation_id))

    def count_queued(self) -> tuple[int, int]:
        """Return how many entries wait, and the bytes of their bodies."""
        with self._lock:
            self._check_open()
            return len(self._queued), sum(entry.num_bytes for entry in self._queued.values())

    def expire(self, *, results_kept_s: float, keys_kept_s: float) -> None:
        """Drop results, and later keys, of entries that ended longer ago than this."""
        now_s = self._clock.now()
        with self._lock:
            self._check_open()
            while self._has_ended(self._with_result, before_s=now_s - results_kept_s):
                operation_id = self._with_result.popleft()
                self._drop_result(operation_id)
                self._without_result.append(operation_id)
            while self._has_ended(self._without_result, before_s=now_s - keys_kept_s):
                del self._entries[self._without_result.popleft()]

    def close(self) -> None:
        """Forget everything; may be called twice."""
        with self._lock:
            self._closed = True
            self._spill.close()
            self._in_memory.clear()
            self._entries.clear()
            self._queued.clear()
            self._with_result.clear()
            self._without_result.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise ServerShutdownError("the operation log is closed")

    def _take(self) -> StoredEntry | None:
        if self._running is None and self._queued:
            self._running, entry = self._queued.popitem(last=False)
            entry.state, entry.outcome = EntryState.RUNNING, None
            entry.started_s = self._clock.now()
        return None if self._running is None else self._stored(self._running)

    def _stored(self, operation_id: str) -> StoredEntry:
        entry = self._entries[operation_id]
        return StoredEntry(
            sequence=entry.sequence,
            operation_id=operation_id,
            kind=entry.kind,
            body=entry.body,
            started_s=entry.started_s,
            attempts=1,
            num_bytes=entry.num_bytes,
        )

    def _end(self, entry: _Entry, outcome: Outcome) -> None:
        entry.state, entry.outcome, entry.body = outcome.state, outcome, b""
        self._with_result.append(outcome.operation_id)
        if outcome.result:
            self._in_memory.append((outcome.operation_id, len(outcome.result)))
            self._num_bytes += len(outcome.result)
            while self._num_bytes > self._max_bytes:
                self._spill_oldest()

    def _spill_oldest(self) -> None:
        operation_id, num_bytes = self._in_memory[0]
        entry = self._entries[operation_id]
        if entry.outcome is not None and entry.outcome.result is not None:
            try:
                entry.spilled = self._spill.put(entry.outcome.result)
            except OSError as error:
                raise TransportError(f"a result has room nowhere: {error}") from error
            entry.outcome = replace(entry.outcome, result=None)
        self._in_memory.popleft()
        self._num_bytes -= num_bytes

    def _drop_result(self, operation_id: str) -> None:
        """Forget the oldest result."""
        entry = self._entries[operation_id]
        if entry.spilled is not None:
            self._spill.drop(entry.spilled)
            entry.spilled = None
        elif self._in_memory and self._in_memory[0][0] == operation_id:
            self._num_bytes -= self._in_memory.popleft()[1]
        if entry.outcome is not None:
            entry.outcome = replace(entry.outcome, result=None, error=None)

    def _outcome_of(self, operation_id: str, entry: _Entry) -> Outcome:
        if entry.outcome is None:
            state = entry.state
            entry.outcome = Outcome(operation_id=operation_id, kind=entry.kind, state=state)
        if entry.spilled is not None:
            return replace(entry.outcome, result=self._spill.get(entry.spilled))
        return entry.outcome

    def _has_ended(self, ended: deque[str], *, before_s: float) -> bool:
        """Return whether the first of the entries ended by then; they lie in that order."""
        outcome = self._entries[ended[0]].outcome if ended else None
        return outcome is not None and (outcome.finished_s or 0.0) <= before_s


def _settled(value: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(value)
    return future


_NEW: Final = Appended(is_new=True, is_same=True)


def _repeated(known: _Entry, digest: bytes) -> Appended:
    return Appended(is_new=False, is_same=known.digest == digest)
