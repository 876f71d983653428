"""Whatever happens in whatever order, a queue does what its model says, through any crash."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.recovery.model import Operation, QueueModel
from tests.recovery.toy import (
    MEMORY_FOLDER,
    PATIENCE_S,
    Crash,
    FakeClock,
    Gate,
    ToyMachine,
    crash_at_commit,
    crash_at_sql,
    load_of,
    look,
    save_of,
)

from loops_core.errors import (
    ConflictError,
    ServerShutdownError,
    TransportError,
    UnknownRequestError,
)
from loops_core.worker.host import OperationQueue
from loops_core.worker.log_durable import DurableLog
from loops_core.worker.queue_settings import QueueSettings

SETTINGS: Final = QueueSettings(snapshot_entries=3, max_attempts=1_000, results_kept_s=100.0)

NAMES: Final = st.one_of(
    st.integers(0, 99).map(lambda n: save_of(f"good-{n}")),
    st.sampled_from([save_of("bad"), save_of("odd"), look(), load_of("elsewhere")]),
)

FAULTS: Final = ("before_apply", "after_apply", "in_save")
CRASHES_IN_RUN: Final = (
    "before_apply",
    "after_apply",
    "UPDATE entries",
    "INSERT OR REPLACE INTO results",
    "DELETE FROM bodies",
    "commit",
)
CRASHES_IN_SNAPSHOT: Final = (
    "in_save",
    "INSERT OR REPLACE INTO snapshots",
    "DELETE FROM bodies",
    "INSERT OR REPLACE INTO floor",
    "DELETE FROM snapshots",
)
CRASHES_IN_APPEND: Final = (
    "SELECT entries.digest",
    "INSERT INTO entries",
    "INSERT INTO bodies",
    "commit",
)


class InMemory(RuleBasedStateMachine):
    """Submits, repeats, cancels, reads and lets time pass, on a log in memory.

    The thread that applies entries stands before the first one that waits, until a rule lets it
    go on.
    """

    on_disk = False

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="loops-recovery-", dir=MEMORY_FOLDER))
        self.clock = FakeClock()
        self.model = QueueModel(results_kept_s=SETTINGS.results_kept_s)
        self.outside: dict[str, str] = {}
        self.num_keys = 0
        self.num_copies = 0

    @property
    def directory(self) -> Path:
        return self.folder / f"run-{self.num_copies}"

    @initialize()
    def open_queue(self) -> None:
        self.gate = Gate()
        self.machine = ToyMachine(gate=self.gate, outside=self.outside)
        self.queue = OperationQueue.open(
            self.directory if self.on_disk else None,
            self.machine,
            settings=SETTINGS,
            clock=self.clock,
        )

    @rule(operation=NAMES)
    def submit(self, operation: Operation) -> None:
        key = self.new_key()
        assert self.queue.submit(*operation, idempotency_key=key) == key
        self.model.accept(key, operation)
        self.settle()

    @precondition(lambda self: self.model.entries)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        key = self.draw_key(data)
        operation = self.model.entries[key].operation
        assert self.queue.submit(*operation, idempotency_key=key) == key

    @precondition(lambda self: self.model.entries)
    @rule(data=st.data())
    def repeat_with_another_body(self, data: st.DataObject) -> None:
        key = self.draw_key(data)
        with pytest.raises(ConflictError) as caught:
            self.queue.submit(*save_of("another"), idempotency_key=key)
        assert caught.value.first_operation_id == key

    @precondition(lambda self: self.model.waiting())
    @rule(data=st.data())
    def run_some(self, data: st.DataObject) -> None:
        self.run(data.draw(st.integers(1, len(self.model.waiting()))))

    def run(self, num_entries: int) -> None:
        self.gate.let_pass(num_entries)
        for _ in range(num_entries):
            key = self.model.run_next(self.clock.now()).operation_id
            self.model.check(key, self.queue.wait(key, PATIENCE_S))
        self.settle()

    @precondition(lambda self: self.model.entries)
    @rule(data=st.data())
    def retrieve(self, data: st.DataObject) -> None:
        self.check_read(self.draw_key(data))

    @precondition(lambda self: self.model.entries)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        key = self.draw_key(data)
        assert self.queue.cancel(key) == self.model.cancel(key, self.clock.now())

    @rule(seconds=st.sampled_from([1.0, 99.0, 100.0, 1_000.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def state_is_that_of_the_model(self) -> None:
        if hasattr(self, "machine"):
            assert self.machine.names == self.model.names
            assert self.machine.sequences == sorted(set(self.machine.sequences))

    @invariant()
    def stats_count_what_waits(self) -> None:
        if hasattr(self, "queue"):
            waiting = self.model.waiting()
            assert self.queue.stats().num_queued == max(0, len(waiting) - 1)
            assert (self.queue.stats().queued_bytes == 0) == (len(waiting) < 2)

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            self.gate.open()
            for entry in self.model.waiting():
                self.model.run_next(self.clock.now())
                self.model.check(
                    entry.operation_id, self.queue.wait(entry.operation_id, PATIENCE_S)
                )
            for key in self.model.entries:
                self.check_read(key)
            assert self.queue.close()
            assert self.machine.names == self.model.names
            ran = [e for e in self.model.entries.values() if not isinstance(e.answer, str)]
            assert {entry.operation_id for entry in ran} == set(self.outside)
        shutil.rmtree(self.folder)

    def settle(self) -> None:
        """Wait until the thread stands before the next entry: from here on nothing moves."""
        if waiting := self.model.waiting():
            self.gate.wait_for(waiting[0].operation_id)

    def new_key(self) -> str:
        self.num_keys += 1
        return f"key-{self.num_keys}"

    def draw_key(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(list(self.model.entries)))

    def check_read(self, key: str) -> None:
        if self.model.has_expired(key, self.clock.now()):
            with pytest.raises(UnknownRequestError):
                self.queue.wait(key, 0)
        else:
            self.model.check(key, self.queue.wait(key, 0))


class OnDisk(InMemory):
    """The same on disk, with crashes at every point where something is written."""

    on_disk = True

    @rule()
    def close_and_reopen(self) -> None:
        if self.model.waiting():
            self.gate.let_pass()
        assert self.queue.close()
        self.reopen()

    @precondition(lambda self: self.model.waiting())
    @rule()
    def lose_power(self) -> None:
        """Go on with a copy of the directory as it is now; what is in memory is lost."""
        before = self.directory
        self.num_copies += 1
        shutil.copytree(before, self.directory)
        self.end_process()
        self.reopen()

    @rule()
    def lose_the_process(self) -> None:
        self.end_process()
        self.reopen()

    @rule()
    def lose_the_newest_snapshot(self) -> None:
        """Damage the newest of two snapshots while nobody has the run open."""
        self.end_process()
        found = sorted((self.directory / "snapshots").glob("0*"))
        if len(found) > 1:
            (found[-1] / "state" / "second.json").write_text("damaged")
        self.reopen()

    @precondition(lambda self: self.model.waiting())
    @rule(point=st.sampled_from(CRASHES_IN_RUN))
    def crash_while_an_entry_runs(self, point: str) -> None:
        with self.crash_at(point):
            self.run_next_if_possible()
            self.end_process()
        self.reopen()

    @precondition(lambda self: not self.model.waiting())
    @rule(point=st.sampled_from(CRASHES_IN_SNAPSHOT))
    def crash_in_a_snapshot(self, point: str) -> None:
        unanswered: list[str] = []
        with self.crash_at(point):
            for _ in range(SETTINGS.snapshot_entries):
                key = self.new_key()
                try:
                    self.queue.submit(*save_of("more"), idempotency_key=key)
                except TransportError:
                    unanswered.append(key)
                else:
                    self.model.accept(key, save_of("more"))
                    self.run_next_if_possible()
            self.end_process()
        self.reopen()
        for key in unanswered:
            self.repeat_unanswered(key, save_of("more"))
        # Which entry the crash came behind depends on who was faster: let all of them end.
        self.run(len(self.model.waiting()))

    @rule(operation=NAMES, point=st.sampled_from(CRASHES_IN_APPEND))
    def crash_while_a_submit_is_written(self, operation: Operation, point: str) -> None:
        key = self.new_key()
        with self.crash_at(point), pytest.raises(TransportError):
            self.queue.submit(*operation, idempotency_key=key)
        self.end_process()
        self.reopen()
        self.repeat_unanswered(key, operation)

    def repeat_unanswered(self, key: str, operation: Operation) -> None:
        """Do what a client does that got no answer: the operation takes effect once."""
        assert self.queue.submit(*operation, idempotency_key=key) == key
        self.model.accept(key, operation)
        self.settle()

    def run_next_if_possible(self) -> None:
        """Let one entry pass; where an answer comes, it has to be true for ever."""
        key = self.model.waiting()[0].operation_id
        self.gate.let_pass()
        with suppress(TransportError):
            status = self.queue.wait(key, PATIENCE_S)
            self.model.run_next(self.clock.now())
            self.model.check(key, status)

    @contextmanager
    def crash_at(self, point: str) -> Generator[None]:
        if point in FAULTS:
            self.machine.faults.add(point)
            yield
        else:
            with crash_at_commit() if point == "commit" else crash_at_sql(point):
                yield

    def end_process(self) -> None:
        """Stop both threads where they are; nothing more is written."""
        self.machine.faults.add("before_apply")
        self.gate.open()
        log = self.queue._log  # pyright: ignore[reportPrivateUsage]
        assert isinstance(log, DurableLog)
        with suppress(ServerShutdownError):
            log._database.submit(_end_thread)  # pyright: ignore[reportPrivateUsage]
        self.queue._sequencer.wake()  # pyright: ignore[reportPrivateUsage]
        assert self.queue.close()

    def reopen(self) -> None:
        """Open the run again; an ending that nobody was told of may have been kept or not."""
        self.open_queue()
        while waiting := self.model.waiting():
            key = waiting[0].operation_id
            status = self.queue.wait(key, 0)
            if status.status == "pending":
                break
            self.model.run_next(self.clock.now())
            self.model.check(key, status)
        self.settle()


def _end_thread(_connection: object) -> None:
    raise Crash("end of the process")


LONG: Final = os.environ.get("LOOPS_LONG_RECOVERY") == "1"
"""Asks for the long form of the tests in this folder."""


@pytest.mark.slow
@pytest.mark.timeout(3600)  # of the long form
def test_queue_in_memory_does_what_its_model_says() -> None:
    run_state_machine_as_test(InMemory, settings=_settings(20))


@pytest.mark.slow
@pytest.mark.timeout(3600)  # of the long form
def test_queue_on_disk_does_what_its_model_says_through_crashes() -> None:
    run_state_machine_as_test(OnDisk, settings=_settings(40))


def _settings(num_examples: int) -> settings:
    return settings(
        max_examples=num_examples * (25 if LONG else 1),
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
