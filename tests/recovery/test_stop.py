"""A run that cannot go on stops, says why, and loses nothing."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import final

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from tests.recovery.toy import PATIENCE_S, Crash, Gate, ToyMachine, save_of

from loops_core.errors import ServerShutdownError, TransportError
from loops_core.types.base import WireModel
from loops_core.types.operation import OperationStatus
from loops_core.types.training import LoadWeightsResponse, SaveWeightsResponse
from loops_core.worker.host import OperationQueue
from loops_core.worker.log import LogEntry
from loops_core.worker.queue_settings import QueueSettings


@contextmanager
def full_disk(start: str) -> Generator[None]:
    """Let every statement with this start fail as on a full disk."""

    def listen(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith(start):
            raise OperationalError(statement, {}, OSError("database or disk is full"))

    event.listen(sa.Engine, "before_cursor_execute", listen)
    try:
        yield
    finally:
        event.remove(sa.Engine, "before_cursor_execute", listen)


def reopen(directory: Path, key: str, settings: QueueSettings | None = None) -> OperationStatus:
    """Return what becomes of an operation when the run is opened again."""
    queue = OperationQueue.open(directory, ToyMachine(), settings=settings)
    status = queue.wait(key, PATIENCE_S)
    assert queue.close()
    return status


@pytest.mark.parametrize("fault", ["before_apply", "after_apply"])
@pytest.mark.parametrize("in_memory", [False, True])
def test_the_end_of_the_thread_stops_the_run(
    memory_path: Path, fault: str, in_memory: bool
) -> None:
    machine = ToyMachine()
    machine.faults.add(fault)
    queue = OperationQueue.open(None if in_memory else memory_path, machine)
    key = queue.submit(*save_of("good"))
    with pytest.raises(ServerShutdownError, match="stopped by Crash"):
        queue.wait(key, PATIENCE_S)
    queue.close()
    with pytest.raises(ServerShutdownError, match="stopped by Crash: nothing more is accepted"):
        queue.submit(*save_of("more"))
    assert machine.is_closed
    if not in_memory:
        expected = SaveWeightsResponse(mode="toy", path="1:good")
        assert reopen(memory_path, key).result == expected


def test_an_append_that_fails_is_refused_and_the_run_goes_on(memory_path: Path) -> None:
    queue = OperationQueue.open(memory_path, ToyMachine())
    with full_disk("INSERT INTO bodies"), pytest.raises(TransportError, match="disk is full"):
        queue.submit(*save_of("good"), idempotency_key="a")
    assert queue.stats().num_queued == 0
    queue.submit(*save_of("good"), idempotency_key="a")
    assert queue.wait("a", PATIENCE_S).status == "done"
    assert queue.close()


def test_a_result_that_cannot_be_written_stops_the_run(memory_path: Path) -> None:
    gate = Gate()
    queue = OperationQueue.open(memory_path, ToyMachine(gate=gate))
    key = queue.submit(*save_of("good"))
    with full_disk("INSERT OR REPLACE INTO results"):
        gate.open()
        with pytest.raises(ServerShutdownError, match=r"the run has stopped: .*disk is full"):
            queue.wait(key, PATIENCE_S)
        queue.close()
    assert reopen(memory_path, key).status == "done"


def test_an_entry_that_ends_the_process_every_time_is_given_up(memory_path: Path) -> None:
    settings = QueueSettings(max_attempts=2)
    for _ in range(2):
        machine = ToyMachine()
        machine.faults.add("before_apply")
        queue = OperationQueue.open(memory_path, machine, settings=settings)
        with pytest.raises(ServerShutdownError):
            queue.wait(queue.submit(*save_of("deadly"), idempotency_key="deadly"), PATIENCE_S)
        queue.close()
    status = reopen(memory_path, "deadly", settings)
    assert status.error == (
        "the worker's process ended 2 times while this operation ran: it is not tried again"
    )


@final
class WrongAnswer:
    """A machine that answers with a result of another operation."""

    def apply(self, entry: LogEntry) -> WireModel:
        return LoadWeightsResponse(step=entry.sequence)

    def replay(self, entry: LogEntry, result: WireModel) -> None: ...

    def save(self, path: Path) -> None: ...

    def load(self, path: Path) -> None: ...

    def close(self) -> None: ...


def test_an_answer_of_the_wrong_type_stops_the_run(caplog: pytest.LogCaptureFixture) -> None:
    queue = OperationQueue.open(None, WrongAnswer())
    with pytest.raises(ServerShutdownError, match="expected a SaveWeightsResponse"):
        queue.wait(queue.submit(*save_of("good")), PATIENCE_S)
    queue.close()
    assert "the run has stopped" in caplog.text


def test_a_replay_that_fails_leaves_the_run_as_it_was(memory_path: Path) -> None:
    machine = ToyMachine()
    queue = OperationQueue.open(memory_path, machine)
    queue.wait(queue.submit(*save_of("first")), PATIENCE_S)
    machine.faults.add("before_apply")
    key = queue.submit(*save_of("second"))
    with pytest.raises(ServerShutdownError, match="stopped by Crash"):
        queue.wait(key, PATIENCE_S)  # a close that came first would take a snapshot: no replay
    queue.close()
    failing = ToyMachine()
    failing.faults.add("in_replay")
    with pytest.raises(Crash):
        OperationQueue.open(memory_path, failing)
    assert not failing.is_closed
    assert reopen(memory_path, key).result == SaveWeightsResponse(mode="toy", path="2:second")
