"""An operation log in a file: what was accepted is on the disk, and so is the run's history."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Self, final

import sqlalchemy as sa

from loops_core.clock import Clock
from loops_core.errors import CheckpointError, LoopsError, TransportError
from loops_core.types.operation import OperationKind
from loops_core.worker import log_statements as statements
from loops_core.worker.database import Database
from loops_core.worker.entries import (
    Appended,
    Cancelled,
    Outcome,
    StoredEntry,
    body_digest,
    make_cancelled,
)
from loops_core.worker.lifecycle import READ_ONLY, EntryState
from loops_core.worker.log_recent import RecentOutcomes
from loops_core.worker.log_tables import FORMAT, SNAPSHOTS


@final
class DurableLog:
    """An `OperationLog` in a SQLite file; see there for what each call promises.

    What a method or its future returned is on the disk. The bodies of entries that changed the
    state stay until `add_snapshot` lets them go, for the replay.

    Once a look has found that nothing waits, the next append takes its entry in the same commit:
    the next look then finds it here, without a commit of its own.
    """

    def __init__(self, database: Database, *, clock: Clock) -> None:
        """Wrap a database that has the tables; use `open`."""
        self._database = database
        self._clock = clock
        self._recent = RecentOutcomes()
        self._is_idle = False  # read and written in the database's thread only
        self._handed: SimpleQueue[StoredEntry] = SimpleQueue()

    @classmethod
    def open(cls, path: Path, *, clock: Clock, is_inline: bool = False) -> Self:
        """Return the log in the file at `path`, made if missing.

        Args:
            path: the file.
            clock: where time comes from.
            is_inline: as for `Database`.

        Raises:
            CheckpointError: the file is damaged, no log, or of another version.
        """
        database = Database(path, is_inline=is_inline)
        try:
            version = database.run(statements.make_tables)
        except TransportError as error:
            database.close()
            raise CheckpointError(f"{path} is not an operation log: {error.message}") from error
        if version != FORMAT:
            database.close()
            raise CheckpointError(
                f"{path} is an operation log of format {version}: expected {FORMAT}; open it with "
                "the version of Loops that wrote it"
            )
        return cls(database, clock=clock)

    def append(self, kind: OperationKind, body: bytes, operation_id: str) -> Future[Appended]:
        """Return a future that settles once the entry is in the log, new or from before.

        Raises:
            ServerShutdownError: the log is closed.
        """
        digest = body_digest(kind, body)
        now_s = self._clock.now()

        taken: StoredEntry | None = None

        def task(db: sa.Connection) -> Appended:
            nonlocal taken
            appended = statements.append(db, operation_id, kind.value, digest, body, now_s)
            taken = statements.take(db, now_s) if appended.is_new and self._is_idle else None
            return appended

        def remember(appended: Appended) -> None:
            if appended.is_new:
                waiting = EntryState.QUEUED
                self._recent.put(Outcome(operation_id=operation_id, kind=kind.value, state=waiting))
            if taken is not None and self._is_idle:
                self._remember(taken)
                self._handed.put(taken)

        return self._database.submit(task, on_commit=remember)

    def recall(
        self, kind: OperationKind, body: bytes, operation_id: str
    ) -> Future[Appended | None]:
        """Return a future of what `append` would answer for an entry that is there; None = none."""
        digest = body_digest(kind, body)
        return self._database.submit(lambda db: statements.recall(db, operation_id, digest))

    def take(self) -> StoredEntry | None:
        """Return the oldest entry that is to run, running from now on; None = none waits."""
        handed = self._drop_handed()
        if handed is not None:
            return handed
        now_s = self._clock.now()

        def remember(taken: StoredEntry | None) -> None:
            self._remember(taken)
            self._drop_handed()  # an append that came between took the entry found here

        return self._database.run(lambda db: statements.take(db, now_s), on_commit=remember)

    def finish(self, sequence: int, outcome: Outcome, *, take: bool) -> StoredEntry | None:
        """End the running entry and, if `take`, return the next one as `take()` does: one commit.

        Raises:
            LoopsError: the entry is not running.
        """
        now_s = self._clock.now()
        is_change = outcome.state is EntryState.DONE and outcome.kind not in READ_ONLY

        def task(db: sa.Connection) -> StoredEntry | None:
            statements.finish(db, sequence, outcome, keep_body=is_change)
            return statements.take(db, now_s) if take else None

        def remember(following: StoredEntry | None) -> None:
            self._recent.put(outcome)
            if take:
                self._remember(following)

        return self._database.run(task, on_commit=remember)

    def cancel(self, operation_id: str) -> Cancelled | None:
        """End an entry that still waits; None = there is no such entry."""
        outcome = make_cancelled(operation_id, finished_s=self._clock.now())

        def remember(cancelled: Cancelled | None) -> None:
            if cancelled is not None and cancelled.was_queued:
                self._recent.put(cancelled.outcome)

        return self._database.run(
            lambda db: statements.cancel(db, operation_id, outcome), on_commit=remember
        )

    def peek(self, operation_id: str) -> Outcome | None:
        """Return what is known of the entry without a wait; None = `find` may know."""
        return self._recent.get(operation_id)

    def find(self, operation_id: str) -> Future[Outcome | None]:
        """Return a future of what is known of the entry; None = nothing is.

        Raises:
            ServerShutdownError: the log is closed.
        """
        return self._database.submit(lambda db: statements.find(db, operation_id))

    def interrupted(self) -> StoredEntry | None:
        """Return the entry that was running when the last process ended."""
        return self._database.run(statements.interrupted)

    def requeue(self, sequence: int) -> None:
        """Let an interrupted entry wait again, in its old place."""
        self._database.run(lambda db: statements.requeue(db, sequence))

    def count_queued(self) -> tuple[int, int]:
        """Return how many entries wait, and the bytes of their bodies."""
        return self._database.run(statements.count_queued)

    def check_replayable(self, after: int) -> None:
        """Raise `CheckpointError` unless every body behind `after` is still there."""
        floor = self._database.run(statements.floor)
        if after < floor:
            raise CheckpointError(
                f"the state behind log entry {floor} is lost: its snapshots are damaged or "
                "missing, and what came before was dropped; load a saved checkpoint into a new run"
            )

    def next_to_replay(self, after: int) -> StoredEntry | None:
        """Return the first done entry behind `after` that changed the state, with its result."""
        return self._database.run(lambda db: statements.next_to_replay(db, after))

    def snapshots(self) -> list[int]:
        """Return the sequences that snapshots were recorded for, the newest first."""
        query = sa.select(SNAPSHOTS.c.sequence).order_by(SNAPSHOTS.c.sequence.desc())
        return self._database.run(lambda db: list(db.execute(query).scalars()))

    def add_snapshot(self, sequence: int, num_bytes: int, *, kept: int) -> list[int]:
        """Record a snapshot, forget all but the newest `kept`, and return the forgotten ones.

        Bodies that no kept snapshot needs for its replay are dropped in the same commit.
        """
        now_s = self._clock.now()
        return self._database.run(
            lambda db: statements.add_snapshot(db, sequence, num_bytes, now_s, kept=kept)
        )

    def forget_snapshot(self, sequence: int) -> None:
        """Forget a snapshot that is damaged."""
        forget = sa.delete(SNAPSHOTS).where(SNAPSHOTS.c.sequence == sequence)
        self._database.run(lambda db: db.execute(forget).rowcount)

    def expire(self, *, results_kept_s: float, keys_kept_s: float) -> None:
        """Drop results and rows of entries that ended longer ago than this."""
        now_s = self._clock.now()
        self._database.run(
            lambda db: statements.expire(
                db, results_before_s=now_s - results_kept_s, keys_before_s=now_s - keys_kept_s
            ),
            on_commit=lambda _: self._recent.forget_ended(),
        )

    def close(self) -> None:
        """Write what is under way and close the file; may be called twice."""
        self._recent.clear()
        handed = self._drop_handed()
        if handed is not None:
            with contextlib.suppress(LoopsError):  # then it counts as interrupted
                self._database.run(lambda db: statements.put_back(db, handed.sequence))
        self._database.close()

    def _drop_handed(self) -> StoredEntry | None:
        """Return what the last append took, once."""
        with contextlib.suppress(Empty):
            return self._handed.get_nowait()
        return None

    def _remember(self, taken: StoredEntry | None) -> None:
        """Keep in mind what a look has found, or that it found nothing."""
        self._is_idle = taken is None
        if taken is not None:
            running = EntryState.RUNNING
            self._recent.put(
                Outcome(operation_id=taken.operation_id, kind=taken.kind, state=running)
            )
