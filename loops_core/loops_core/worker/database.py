"""One thread that owns a log's database, and turns what is waiting into one commit."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from loops_core.errors import LoopsError, ServerShutdownError, TransportError

T = TypeVar("T")

_MAX_BATCH: Final = 256

_DURABLE: Final = (
    "journal_mode=WAL",
    "synchronous=FULL",  # a commit returns after its bytes are on the disk
    "fullfsync=ON",  # macOS: fsync alone leaves the bytes in the drive's cache
    "journal_size_limit=67108864",  # a write-ahead log that grew larger is cut back
)

_INLINE: Final = ("journal_mode=MEMORY", "synchronous=OFF")


@final
class Database:
    """A SQLite database whose only connection lives in a thread of its own.

    Tasks run one after another, in the order of their submits. Those that wait together share one
    transaction, so that many small appends cost one write to the disk. A task's future settles
    after the commit: what it returned is durable by then.

    A task may be run again when the transaction that held it failed: it must be written so that a
    second run on top of a first one that did reach the disk changes nothing.
    """

    def __init__(self, path: Path, *, is_inline: bool = False) -> None:
        """Open the file at `path`, made if missing.

        Args:
            path: the file.
            is_inline: tasks run on the threads that submit them, one at a time, and the disk is not
                waited for: a file that outlives this object, but not the machine.
        """
        self._engine = _make_engine(path, is_inline=is_inline)
        self._is_inline = is_inline
        self._changed = threading.Condition()
        self._waiting: deque[_Job[Any]] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._main, name="loops-log", daemon=True)
        if not is_inline:
            self._thread.start()

    def submit(
        self,
        task: Callable[[sa.Connection], T],
        *,
        on_commit: Callable[[T], None] | None = None,
    ) -> Future[T]:
        """Return the future of `task`, which the thread will run inside a transaction.

        The future raises what the task raised, or `TransportError` where the database failed: the
        task may then have reached the disk or not. `on_commit` is called with what the task
        returned, in the thread, after the commit and before anybody else learns of it; it must not
        raise.

        Raises:
            ServerShutdownError: the database is closed.
        """
        job = _Job(task, on_commit)
        with self._changed:
            if self._closed:
                raise ServerShutdownError("the operation log is closed")
            if self._is_inline:
                self._commit([job])
            else:
                self._waiting.append(job)
                self._changed.notify()
        return job.future

    def run(
        self,
        task: Callable[[sa.Connection], T],
        *,
        on_commit: Callable[[T], None] | None = None,
    ) -> T:
        """Return what the task returned, once it is durable; raises as the future of `submit`."""
        return self.submit(task, on_commit=on_commit).result()

    def close(self) -> None:
        """Run what is waiting, then close the file; may be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._is_inline:
            self._engine.dispose()
        else:
            self._thread.join()

    def _main(self) -> None:
        batch: list[_Job[Any]] = []
        try:
            while batch := self._next_batch():
                self._commit(batch)
        except BaseException:
            self._abandon(batch)
            raise
        finally:
            self._engine.dispose()

    def _next_batch(self) -> list[_Job[Any]]:
        """Return the jobs that wait, at least one; [] once the database is closed."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            num_jobs = min(len(self._waiting), _MAX_BATCH)
            return [self._waiting.popleft() for _ in range(num_jobs)]

    def _commit(self, batch: list[_Job[Any]]) -> None:
        batch = [job for job in batch if job.claim()]
        try:
            with self._engine.begin() as connection:
                for job in batch:
                    job.run(connection)
        except (SQLAlchemyError, LoopsError) as error:
            if len(batch) == 1:
                batch[0].fail(_to_loops_error(error))
                return
            for job in batch:  # one job's failure is not its neighbours'
                self._commit([job])
        else:
            for job in batch:
                job.settle()

    def _abandon(self, batch: list[_Job[Any]]) -> None:
        """Let nobody wait for a thread that is ending out of turn."""
        with self._changed:
            self._closed = True
            left = [*batch, *self._waiting]
            self._waiting.clear()
        for job in left:
            job.fail(TransportError("the operation log has stopped; reopen the run"))


@final
class _Job(Generic[T]):
    """A task on its way through the thread."""

    __slots__ = ("_claimed", "_on_commit", "_result", "_task", "future")

    def __init__(
        self, task: Callable[[sa.Connection], T], on_commit: Callable[[T], None] | None
    ) -> None:
        self._task = task
        self._on_commit = on_commit
        self._claimed = False
        self.future: Future[T] = Future()

    def claim(self) -> bool:
        """Return False where the one who waited has gone; afterwards nobody can go."""
        if not self._claimed:
            self._claimed = self.future.set_running_or_notify_cancel()
        return self._claimed

    def run(self, connection: sa.Connection) -> None:
        self._result = self._task(connection)

    def settle(self) -> None:
        if self._on_commit is not None:
            self._on_commit(self._result)
        self.future.set_result(self._result)

    def fail(self, error: LoopsError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


def _to_loops_error(error: Exception) -> LoopsError:
    if isinstance(error, LoopsError):
        return error
    cause = getattr(error, "orig", None) or error  # without the statement and its parameters
    failure = TransportError(f"the operation log failed: {type(cause).__name__}: {cause}")
    failure.__cause__ = error
    return failure


def _make_engine(path: Path, *, is_inline: bool) -> sa.Engine:
    pragmas = _INLINE if is_inline else _DURABLE

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            for pragma in pragmas:
                connection.execute(f"PRAGMA {pragma}").close()
        except BaseException:
            connection.close()  # the file is no database, or damaged
            raise
        return connection

    engine = sa.create_engine(
        "sqlite://", creator=connect, poolclass=StaticPool, hide_parameters=True
    )
    # Left to itself, the driver begins no transaction before a CREATE TABLE: a process that died
    # there would leave half of the tables.
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN")
