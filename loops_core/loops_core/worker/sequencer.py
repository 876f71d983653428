"""The one loop that applies a run's log to its machine, entry by entry."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar, final

from loops_core.clock import Clock
from loops_core.errors import LoopsError, PluginError, RemoteOpError, ServerShutdownError
from loops_core.types.base import WireModel
from loops_core.types.frames import pack
from loops_core.types.operation import OPERATIONS, OperationKind
from loops_core.worker.admission import Room
from loops_core.worker.entries import LogEntry, Outcome, StoredEntry, read_packed
from loops_core.worker.lifecycle import EntryState
from loops_core.worker.log import OperationLog
from loops_core.worker.queue_settings import QueueSettings
from loops_core.worker.results import Results, make_error_body
from loops_core.worker.snapshots import Pending, Snapshots
from loops_core.worker.turning import Idle, Turner, Turning, Turns
from loops_core.worker.waits import Doorbell

_log = logging.getLogger(__name__)

T = TypeVar("T")

_EXPIRE_EVERY_S: Final = 60.0
_IDLE: Final = Idle()
CLOSING: Final = "the run is closing"


class Machine(Protocol):
    """A deterministic state machine that a log drives; called from one thread at a time.

    The same entries in the same order give the same state and results, in another process too. A
    call that raises has changed nothing. Operations in `lifecycle.READ_ONLY` change nothing either.
    """

    def apply(self, entry: LogEntry) -> WireModel:
        """Run an entry and return its result; any Exception is the entry's failure.

        Called again for the same entry when the process died before the result was written. So what
        it writes outside, such as a saved checkpoint, must be safe to write twice.
        """
        ...

    def replay(self, entry: LogEntry, result: WireModel) -> None:
        """Repeat the change of state of an entry that succeeded with `result`.

        Its effects outside exist already and are not repeated. `READ_ONLY` entries are left out.
        """
        ...

    def save(self, path: Path) -> None:
        """Write the whole state into an empty directory."""
        ...

    def load(self, path: Path) -> None:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the files are damaged or of another version; nothing has changed.
        """
        ...

    def close(self) -> None:
        """Give back memory and files; nothing is called afterwards."""
        ...


@final
class Sequencer:
    """Applies entries in the order of the log, each once, in a loop of its own.

    The loop owns the machine and everything in `resources`, which it closes when it ends: after
    `close`, when the log cannot be written, when the machine raises what is no Exception, or when
    whoever turns it lets it go. In all but the first case the log has the truth: the entry that ran
    counts as interrupted, and opening the run again continues from there.

    One entry is taken at a time. A machine that can join adjacent passes would be given a run of
    them here, in `_end_of`, and nowhere else.
    """

    def __init__(
        self,
        machine: Machine,
        log: OperationLog,
        *,
        results: Results,
        room: Room,
        snapshots: Snapshots | None,
        settings: QueueSettings,
        clock: Clock,
    ) -> None:
        """Make a sequencer that is not started yet."""
        self._machine = machine
        self._log = log
        self._results = results
        self._room = room
        self._snapshots = snapshots
        self._pending = Pending(settings)
        self._settings = settings
        self._clock = clock
        self._work = Doorbell()  # rung: something may wait that nobody has looked for
        self._work.ring()
        self._is_closing = False
        self._reason = CLOSING
        self._running: str | None = None
        self._expire_at_s = clock.monotonic()
        self._turning: Turning | None = None

    @property
    def running(self) -> str | None:
        """Return the id of the operation that runs now."""
        return self._running

    def recover(self) -> None:
        """Bring the machine to where the log stands; called once, before `start`.

        Raises:
            CheckpointError: the state cannot be had again from what is on the disk.
        """
        if self._snapshots is None:
            return  # a log in memory is as new as the machine
        history = self._snapshots.log
        sequence = self._snapshots.restore(self._machine)
        while (stored := history.next_to_replay(sequence)) is not None:
            entry = _to_entry(stored)
            self._machine.replay(entry, _to_result(stored))
            num_bytes = stored.num_bytes + len(stored.result or b"")
            self._pending.add(entry.kind, num_bytes, entry.sequence)
            sequence = entry.sequence
        interrupted = history.interrupted()
        if interrupted is None:
            return
        if interrupted.attempts < self._settings.max_attempts:
            history.requeue(interrupted.sequence)
            return
        error = RemoteOpError(
            f"the worker's process ended {interrupted.attempts} times while this operation ran: it "
            "is not tried again"
        )
        history.finish(interrupted.sequence, self._to_failure(interrupted, error), take=False)

    def start(self, resources: contextlib.ExitStack, turner: Turner) -> None:
        """Begin to apply entries; from now on the loop owns the machine and `resources`."""
        turns = self._turns(resources)
        self._turning = turner.start(turns, self._work, name="loops-sequencer")

    def wake(self) -> None:
        """Say that the log has a new entry."""
        self._work.ring()

    def check_running(self) -> None:
        """Raise `ServerShutdownError` unless entries are applied."""
        if self._is_closing or self._turning is None or not self._turning.is_alive():
            raise ServerShutdownError(self._reason)

    def close(self, wait_s: float) -> bool:
        """End the loop after the running entry; return whether it ended within `wait_s`.

        Who waits for another entry learns at once that the run is closing; who waits for the
        running one gets its result or, when the time is over, learns it too.
        """
        self._is_closing = True
        self._work.ring()
        self._room.close(CLOSING)
        self._results.shut_down(CLOSING, but=self._running)
        if self._turning is None:
            return True
        self._turning.join(wait_s)
        self._results.shut_down(CLOSING)
        return not self._turning.is_alive()

    def _turns(self, resources: contextlib.ExitStack) -> Turns:
        with resources:
            resources.callback(self._stop)
            try:
                yield from self._loop()
            except LoopsError as error:
                self._reason = f"the run has stopped: {error.message}"
                _log.error("%s; open it again to continue", self._reason)
            except GeneratorExit:
                self._reason = "the worker has ended"
                raise
            except BaseException as error:
                self._reason = f"the run was stopped by {type(error).__name__}"
                raise

    def _stop(self) -> None:
        self._running = None
        self._room.close(self._reason)
        self._results.shut_down(self._reason)

    def _loop(self) -> Turns:
        stored: StoredEntry | None = None
        while True:
            self._snapshot_if(self._pending.is_due)
            if stored is not None:
                self._running = stored.operation_id
                self._room.release(stored.num_bytes)
                yield stored
                outcome, value = self._end_of(stored)
                yield outcome
                stored = self._finish(stored, outcome, value)
            elif self._is_closing:
                break
            else:
                yield _IDLE  # the bell is answered before the look: what comes behind it rings
                stored = None if self._is_closing else self._log.take()
        self._snapshot_if(self._pending.is_any)

    def _finish(
        self, stored: StoredEntry, outcome: Outcome, value: WireModel | None
    ) -> StoredEntry | None:
        """Write an entry's outcome, tell who waits; return the next entry if taken too."""
        if outcome.state is EntryState.DONE and self._snapshots is not None:
            num_bytes = stored.num_bytes + len(outcome.result or b"")
            self._pending.add(outcome.kind, num_bytes, stored.sequence)
        take = not self._is_closing and not self._pending.is_due
        if take:
            self._work.answer()
        else:
            self._work.ring()
        following = self._log.finish(stored.sequence, outcome, take=take)
        self._running = None if following is None else following.operation_id
        self._expire_if_due()
        self._results.settle(
            outcome, value
        )  # last: who is woken by it waits for this thread to rest
        return following

    def _end_of(self, stored: StoredEntry) -> tuple[Outcome, WireModel | None]:
        """Apply an entry; return how it ended, and its result. Its effect is in memory only."""
        result = self._attempt(lambda: self._machine.apply(_to_entry(stored)))
        if isinstance(result, Exception):
            known = isinstance(result, LoopsError)
            _log.log(
                logging.INFO if known else logging.ERROR,
                "%s %s failed: %s",
                stored.kind,
                stored.operation_id,
                result,
                exc_info=None if known else result,
            )
            return self._to_failure(stored, result), None
        expected = OPERATIONS[OperationKind(stored.kind)].result_type
        if not isinstance(result, expected):
            raise PluginError(
                f"the machine answered {stored.kind} with a {type(result).__name__}: expected a "
                f"{expected.__name__}"
            )
        outcome = Outcome(
            operation_id=stored.operation_id,
            kind=stored.kind,
            state=EntryState.DONE,
            result=pack(result),
            finished_s=self._clock.now(),
        )
        return outcome, result if type(result) is expected else None

    def _attempt(self, call: Callable[[], T]) -> T | Exception:
        """Return what the machine returned or raised: an Exception is an answer, not our end."""
        try:
            return call()
        except Exception as error:  # noqa: BLE001  # the one place: see the docstring
            return error

    def _to_failure(self, stored: StoredEntry, error: Exception) -> Outcome:
        return Outcome(
            operation_id=stored.operation_id,
            kind=stored.kind,
            state=EntryState.FAILED,
            error=make_error_body(error, operation_id=stored.operation_id, kind=stored.kind),
            finished_s=self._clock.now(),
        )

    def _snapshot_if(self, is_wanted: bool) -> None:  # noqa: FBT001  # reads as a sentence
        if self._snapshots is None or not is_wanted:
            return
        snapshots, sequence = self._snapshots, self._pending.sequence
        failure = self._attempt(lambda: snapshots.take(self._machine, sequence))
        if failure is not None:  # the log still has everything: only its bodies stay longer
            _log.warning("no snapshot behind entry %d: %s", sequence, failure)
        self._pending.clear()

    def _expire_if_due(self) -> None:
        now_s = self._clock.monotonic()
        if now_s >= self._expire_at_s:
            self._expire_at_s = now_s + _EXPIRE_EVERY_S
            kept_s = self._settings.results_kept_s
            self._log.expire(results_kept_s=kept_s, keys_kept_s=self._settings.keys_kept_s)


def _to_entry(stored: StoredEntry) -> LogEntry:
    kind = OperationKind(stored.kind)
    return LogEntry(
        sequence=stored.sequence,
        operation_id=stored.operation_id,
        kind=kind,
        body=read_packed(f"entry {stored.sequence}", stored.body, OPERATIONS[kind].body_type),
        started_s=stored.started_s,
    )


def _to_result(stored: StoredEntry) -> WireModel:
    result_type = OPERATIONS[OperationKind(stored.kind)].result_type
    return read_packed(f"the result of entry {stored.sequence}", stored.result or b"", result_type)
