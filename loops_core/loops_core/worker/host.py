"""A run's operation queue: submit, wait, cancel; nothing lost and nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final, Self, final

from loops_core import chance
from loops_core.clock import Clock, SystemClock
from loops_core.errors import BusyError, ConflictError, UnknownRequestError, UsageError
from loops_core.types.frames import pack
from loops_core.types.operation import OPERATIONS, OperationBody, OperationKind, OperationStatus
from loops_core.worker import disk
from loops_core.worker.admission import Room
from loops_core.worker.entries import Appended, is_small
from loops_core.worker.lifecycle import EntryState
from loops_core.worker.log import OperationLog
from loops_core.worker.log_durable import DurableLog
from loops_core.worker.log_memory import MemoryLog
from loops_core.worker.queue_settings import QueueSettings
from loops_core.worker.results import Results
from loops_core.worker.run_lock import RunLock
from loops_core.worker.sequencer import Machine, Sequencer
from loops_core.worker.snapshots import Snapshots
from loops_core.worker.turning import THREADS, Turner
from loops_core.worker.waits import settled

_LOG_FILE: Final = "log.sqlite"
_SNAPSHOTS_FOLDER: Final = "snapshots"
_MAX_KEY: Final = 256
_NOT_LOGGED: Final = frozenset({"seq_id"})


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """How busy a queue is.

    Attributes:
        num_queued: entries that wait.
        queued_bytes: bytes of their bodies.
        running: id of the operation that runs; None = none does.
    """

    num_queued: int
    queued_bytes: int
    running: str | None


@final
class OperationQueue:
    """The log of one run and the thread that applies it to a machine; safe from many threads.

    Accepted means in the log: durably, where the log is on disk. Entries run one at a time, in
    order of arrival, each once. The log decides: what ran is what was logged, and after a crash the
    state is that of the last snapshot and of the entries behind it.
    """

    def __init__(
        self,
        log: OperationLog,
        *,
        sequencer: Sequencer,
        results: Results,
        room: Room,
        settings: QueueSettings,
    ) -> None:
        """Put together what `open` made."""
        self._log = log
        self._sequencer = sequencer
        self._results = results
        self._room = room
        self._settings = settings

    @classmethod
    def open(
        cls,
        directory: Path | None,
        machine: Machine,
        *,
        settings: QueueSettings | None = None,
        clock: Clock | None = None,
        turner: Turner = THREADS,
    ) -> Self:
        """Return the queue of the run in `directory`, made if missing; None = throw-away.

        The machine comes as it is at the start of every run. Before this returns it is brought to
        where the log stands; entries that wait in the log then run on their own. The queue owns the
        machine once this has returned; where it raises, the caller still does.

        Raises:
            UsageError: the run is open in another process, or in this one.
            CheckpointError: the log or its snapshots are damaged beyond recovery.
        """
        settings = settings or QueueSettings()
        clock = clock or SystemClock()
        with contextlib.ExitStack() as resources:
            if directory is not None:
                disk.make_folder(directory)
                resources.callback(RunLock.acquire(directory).release)
            log, snapshots = _open_log(directory, clock, turner)
            resources.callback(log.close)
            room = Room(
                max_entries=settings.max_queued, max_bytes=settings.max_queued_bytes, clock=clock
            )
            results = Results(log, clock=clock, results_kept_s=settings.results_kept_s)
            sequencer = Sequencer(
                machine,
                log,
                results=results,
                room=room,
                snapshots=snapshots,
                settings=settings,
                clock=clock,
            )
            sequencer.recover()
            room.fill(*log.count_queued())
            resources.callback(machine.close)
            sequencer.start(resources.pop_all(), turner)
        return cls(log, sequencer=sequencer, results=results, room=room, settings=settings)

    def submit(
        self, kind: OperationKind, body: OperationBody, *, idempotency_key: str | None = None
    ) -> str:
        """Return the id of the operation, which is in the log by now; waits for room if it must.

        A repeated key with the same body returns the first operation's id and executes nothing. The
        id is the key, or a fresh one where there is none.

        Raises:
            UsageError: the body is not of this operation or larger than the queue, or the key is
                empty, too long, or not printable ASCII.
            ConflictError: the key was used for another body.
            BusyError: there was no room for as long as a submit waits.
            ServerShutdownError: the run is closing or has stopped.
            TransportError: the log could not be written; the entry may be in it or not.
        """
        operation_id = (
            chance.draw_hex(16) if idempotency_key is None else _check_key(idempotency_key)
        )
        packed = self._pack(kind, body)
        if not self._room.reserve(len(packed), wait_s=0):
            known = self._log.recall(kind, packed, operation_id).result()
            if known is not None:  # a repeat needs no room
                return _accept(operation_id, known)
            if not self._room.reserve(len(packed), wait_s=self._settings.submit_wait_s):
                raise self._busy(len(packed))
        appended = self._append(kind, packed, operation_id)
        if isinstance(appended, Future):
            counted: SimpleQueue[Future[Appended]] = SimpleQueue()
            appended.add_done_callback(counted.put)
            appended = counted.get().result()
        return _accept(operation_id, appended)

    async def submit_async(
        self, kind: OperationKind, body: OperationBody, *, idempotency_key: str | None = None
    ) -> str:
        """Do what `submit` does without blocking the event loop or a thread while it waits.

        May be cancelled: the entry may then be in the log or not, as after a `TransportError`.
        """
        operation_id = (
            chance.draw_hex(16) if idempotency_key is None else _check_key(idempotency_key)
        )
        if is_small(body):
            packed = self._pack(kind, body)
        else:
            packed = await asyncio.to_thread(self._pack, kind, body)
        if not self._room.reserve(len(packed), wait_s=0):
            known = await settled(self._log.recall(kind, packed, operation_id))
            if known is not None:
                return _accept(operation_id, known)
            wait_s = self._settings.submit_wait_s
            if not await self._room.reserve_async(len(packed), wait_s=wait_s):
                raise self._busy(len(packed))
        appended = self._append(kind, packed, operation_id)
        if isinstance(appended, Future):
            appended = await settled(appended)
        return _accept(operation_id, appended)

    def wait(self, operation_id: str, hold_s: float) -> OperationStatus:
        """Return the operation's result or error, or `pending` after at most `hold_s` seconds.

        Raises:
            UnknownRequestError: there is no such operation, or its result has expired.
            ServerShutdownError: the run is closing or has stopped.
        """
        return self._results.wait(operation_id, hold_s)

    async def wait_async(self, operation_id: str, hold_s: float) -> OperationStatus:
        """Do what `wait` does without blocking the event loop or a thread; may be cancelled."""
        return await self._results.wait_async(operation_id, hold_s)

    def wait_any(self, operation_ids: Sequence[str], hold_s: float) -> dict[str, OperationStatus]:
        """Return those that have ended, by id, once one has; none after `hold_s` seconds.

        An operation that is not known, or whose result has expired, counts as ended: its status
        says `UnknownRequestError`.

        Raises:
            ServerShutdownError: the run is closing or has stopped.
        """
        return self._results.wait_any(operation_ids, hold_s)

    async def wait_any_async(
        self, operation_ids: Sequence[str], hold_s: float
    ) -> dict[str, OperationStatus]:
        """Do what `wait_any` does without blocking the event loop or a thread."""
        return await self._results.wait_any_async(operation_ids, hold_s)

    def cancel(self, operation_id: str) -> bool:
        """Return whether the operation will never run; one that runs or has ended is left alone.

        Raises:
            UnknownRequestError: there is no such operation.
            ServerShutdownError: the run is closing or has stopped.
        """
        cancelled = self._log.cancel(operation_id)
        if cancelled is None:
            raise UnknownRequestError(
                f"operation {operation_id!r} is not known to this run", operation_id=operation_id
            )
        if cancelled.was_queued:
            self._room.release(cancelled.num_bytes)
            self._results.settle(cancelled.outcome)
        return cancelled.outcome.state is EntryState.CANCELLED

    def check_running(self) -> None:
        """Return if operations are being applied.

        Raises:
            ServerShutdownError: the run is closing or has stopped.
        """
        self._sequencer.check_running()

    def forget_results(self) -> None:
        """Drop the results of all operations that have ended, as if their time were over."""
        self._log.expire(results_kept_s=0.0, keys_kept_s=self._settings.keys_kept_s)

    def stats(self) -> QueueStats:
        """Return how busy the queue is."""
        num_queued, queued_bytes = self._room.load()
        return QueueStats(
            num_queued=num_queued, queued_bytes=queued_bytes, running=self._sequencer.running
        )

    def close(self) -> bool:
        """Finish the running entry, keep the state, close the machine; may be called twice.

        Entries that still wait stay in a log on disk for the next `open`; those in memory are gone.

        Returns:
            Whether all that was done within `close_wait_s`. If not, the thread goes on in the
            background and the run stays locked until it has ended.
        """
        return self._sequencer.close(self._settings.close_wait_s)

    def _pack(self, kind: OperationKind, body: OperationBody) -> bytes:
        expected = OPERATIONS[kind].body_type
        if not isinstance(body, expected):
            raise UsageError(
                f"body is a {type(body).__name__}: {kind} takes a {expected.__name__}", field="body"
            )
        try:
            packed = pack(body, without=_NOT_LOGGED)
        except ValueError as error:
            raise UsageError(f"body cannot be written: {error}", field="body") from error
        if len(packed) > self._settings.max_queued_bytes:
            raise UsageError(
                f"body has {len(packed)} bytes: the queue holds at most "
                f"{self._settings.max_queued_bytes}; send the data in several calls",
                field="body",
            )
        return packed

    def _append(
        self, kind: OperationKind, packed: bytes, operation_id: str
    ) -> Appended | Future[Appended]:
        """Append an entry whose room is taken; a future's callbacks find it counted."""
        num_bytes = len(packed)
        try:
            appended = self._log.append(kind, packed, operation_id)
        except BaseException:
            self._room.release(num_bytes)
            raise

        def count(future: Future[Appended]) -> None:  # runs also where the caller was interrupted
            failed = future.cancelled() or future.exception() is not None
            self._count(None if failed else future.result(), num_bytes)

        if isinstance(appended, Future):
            appended.add_done_callback(count)
        else:
            self._count(appended, num_bytes)
        return appended

    def _count(self, appended: Appended | None, num_bytes: int) -> None:
        """Let a new entry be run; give back the room of what has become none; None = failed."""
        if appended is not None and appended.is_new:
            self._sequencer.wake()
        else:
            self._room.release(num_bytes)

    def _busy(self, num_bytes: int) -> BusyError:
        num_queued, queued_bytes = self._room.load()
        return BusyError(
            f"{num_queued} operations with {queued_bytes} bytes wait, and after "
            f"{self._settings.submit_wait_s:g} s there was still no room for one more of "
            f"{num_bytes} bytes; repeat the call later with the same idempotency key",
            retry_after_s=self._settings.retry_after_s,
        )


def _open_log(
    directory: Path | None, clock: Clock, turner: Turner
) -> tuple[OperationLog, Snapshots | None]:
    """Return the log of the run in `directory` and its snapshots; None = in memory, without."""
    if directory is None:
        return MemoryLog(clock=clock), None
    log = DurableLog.open(directory / _LOG_FILE, clock=clock, is_inline=turner.is_inline)
    try:
        return log, Snapshots(directory / _SNAPSHOTS_FOLDER, log)
    except BaseException:
        log.close()
        raise


def _check_key(key: str) -> str:
    if not key or len(key) > _MAX_KEY or not (key.isascii() and key.isprintable()):
        raise UsageError(
            f"idempotency_key is {key[:_MAX_KEY]!r}: expected 1 to {_MAX_KEY} printable ASCII "
            "characters",
            field="idempotency_key",
        )
    return key


def _accept(operation_id: str, appended: Appended) -> str:
    if not appended.is_same:
        raise ConflictError(
            f"idempotency_key {operation_id!r} was used before with another body: use a new key "
            "for a new call, or send the first body again",
            field="idempotency_key",
            first_operation_id=operation_id,
        )
    return operation_id
