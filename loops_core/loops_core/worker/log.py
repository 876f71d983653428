"""The operation log: what was accepted, in order of arrival, and what became of it."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from loops_core.types.operation import OperationKind
from loops_core.worker.entries import Appended, Cancelled, LogEntry, Outcome, StoredEntry

__all__ = ["LogEntry", "OperationLog"]


class OperationLog(Protocol):
    """The log of one run; safe from many threads.

    `DurableLog` keeps it in a file and knows its history besides, `MemoryLog` keeps it in this
    process. What a method or its future returned is as durable as the log is. Results and keys stay
    until `expire` lets them go.

    Every method raises `ServerShutdownError` once the log is closed.
    """

    def append(
        self, kind: OperationKind, body: bytes, operation_id: str
    ) -> Appended | Future[Appended]:
        """Put an entry into the log; a future settles once it is there, new or from before."""
        ...

    def recall(
        self, kind: OperationKind, body: bytes, operation_id: str
    ) -> Future[Appended | None]:
        """Return a future of what `append` would answer for an entry that is there; None = none."""
        ...

    def take(self) -> StoredEntry | None:
        """Return the oldest entry that is to run, running from now on; None = none waits."""
        ...

    def finish(self, sequence: int, outcome: Outcome, *, take: bool) -> StoredEntry | None:
        """End the running entry and, if `take`, return the next one as `take()` does.

        Raises:
            LoopsError: the entry is not running.
        """
        ...

    def cancel(self, operation_id: str) -> Cancelled | None:
        """End an entry that still waits; None = there is no such entry."""
        ...

    def peek(self, operation_id: str) -> Outcome | None:
        """Return what is known of the entry without a wait; None = `find` may know."""
        ...

    def find(self, operation_id: str) -> Future[Outcome | None]:
        """Return a future of what is known of the entry; None = nothing is."""
        ...

    def count_queued(self) -> tuple[int, int]:
        """Return how many entries wait, and the bytes of their bodies."""
        ...

    def expire(self, *, results_kept_s: float, keys_kept_s: float) -> None:
        """Drop results, and later keys, of entries that ended longer ago than this."""
        ...

    def close(self) -> None:
        """Give back what the log holds; may be called twice."""
        ...
