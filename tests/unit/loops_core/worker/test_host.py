"""The front of a run: submit, repeat, cancel, bounds, close."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.recovery.toy import PATIENCE_S, Gate, ToyMachine, look, save_of
from tests.unit.loops_core.worker.conftest import OpenQueue

from loops_core.errors import (
    BusyError,
    ConflictError,
    OperationCancelledError,
    ServerShutdownError,
    UnknownRequestError,
    UsageError,
    error_from_body,
)
from loops_core.types.operation import OperationKind, SaveStateBody
from loops_core.worker.host import OperationQueue
from loops_core.worker.queue_settings import QueueSettings

NO_WAIT = QueueSettings(max_queued=2, submit_wait_s=0, retry_after_s=7)


def test_the_operation_id_is_the_key(open_queue: OpenQueue) -> None:
    queue = open_queue(ToyMachine())
    assert queue.submit(*save_of("good"), idempotency_key="my key/1") == "my key/1"


def test_without_keys_every_submit_is_an_operation_of_its_own(open_queue: OpenQueue) -> None:
    machine = ToyMachine()
    queue = open_queue(machine)
    first, second = (queue.submit(*save_of("good")) for _ in range(2))
    assert first != second
    queue.wait(second, PATIENCE_S)
    assert machine.names == ["good", "good"]


def test_a_repeated_submit_executes_nothing(open_queue: OpenQueue) -> None:
    machine = ToyMachine()
    queue = open_queue(machine)
    for _ in range(3):
        queue.wait(queue.submit(*save_of("good"), idempotency_key="a"), PATIENCE_S)
    assert machine.names == ["good"]


def test_a_repeat_may_carry_another_seq_id(open_queue: OpenQueue) -> None:
    queue = open_queue(ToyMachine())
    for seq_id in (1, 2, None):
        body = SaveStateBody(name="good", seq_id=seq_id)
        assert queue.submit(OperationKind.SAVE_STATE, body, idempotency_key="a") == "a"


def test_a_key_with_another_body_is_refused(open_queue: OpenQueue) -> None:
    queue = open_queue(ToyMachine())
    queue.submit(*save_of("good"), idempotency_key="a")
    with pytest.raises(ConflictError, match="'a' was used before with another body") as caught:
        queue.submit(*save_of("other"), idempotency_key="a")
    assert caught.value.first_operation_id == "a"


@pytest.mark.parametrize("key", ["", "x" * 257, "two\nlines", "\u00e4"])
def test_a_key_that_cannot_travel_is_refused(open_queue: OpenQueue, key: str) -> None:
    queue = open_queue(ToyMachine())
    with pytest.raises(UsageError, match="idempotency_key is") as caught:
        queue.submit(*save_of("good"), idempotency_key=key)
    assert caught.value.field == "idempotency_key"


def test_a_body_of_another_operation_is_refused(open_queue: OpenQueue) -> None:
    queue = open_queue(ToyMachine())
    with pytest.raises(UsageError, match="optim_step takes a OptimStepBody"):
        queue.submit(OperationKind.OPTIM_STEP, SaveStateBody(name="good"))


def test_a_body_that_cannot_be_written_is_refused(open_queue: OpenQueue) -> None:
    queue = open_queue(ToyMachine())
    with pytest.raises(UsageError, match="body cannot be written") as caught:
        queue.submit(*save_of("\udc80"))
    assert caught.value.field == "body"
    assert queue.stats().num_queued == 0


def test_what_runs_is_what_was_submitted(open_queue: OpenQueue, gate: Gate) -> None:
    machine = ToyMachine(gate=gate)
    queue = open_queue(machine)
    queue.submit(*save_of("first"))
    body = SaveStateBody(name="before")
    key = queue.submit(OperationKind.SAVE_STATE, body)
    body.name = "after"
    gate.open()
    queue.wait(key, PATIENCE_S)
    assert machine.names == ["first", "before"]


def fill(queue: OperationQueue, gate: Gate) -> list[str]:
    """Submit one entry that runs and two that wait."""
    keys = [queue.submit(*save_of("runs"), idempotency_key="runs")]
    gate.wait_for("runs")
    return keys + [queue.submit(*save_of(name), idempotency_key=name) for name in ("b", "c")]


def test_over_the_bound_a_submit_is_refused(open_queue: OpenQueue, gate: Gate) -> None:
    queue = open_queue(ToyMachine(gate=gate), settings=NO_WAIT)
    fill(queue, gate)
    with pytest.raises(BusyError, match=r"2 operations with \d+ bytes wait") as caught:
        queue.submit(*save_of("d"))
    assert caught.value.retry_after_s == 7


def test_a_repeat_needs_no_room(open_queue: OpenQueue, gate: Gate) -> None:
    queue = open_queue(ToyMachine(gate=gate), settings=NO_WAIT)
    for key in fill(queue, gate):
        assert queue.submit(*save_of(key), idempotency_key=key) == key
    with pytest.raises(ConflictError):
        queue.submit(*save_of("other"), idempotency_key="b")


def test_refused_repeats_take_no_room(open_queue: OpenQueue, gate: Gate) -> None:
    queue = open_queue(ToyMachine(gate=gate), settings=NO_WAIT)
    queue.submit(*save_of("runs"), idempotency_key="runs")
    gate.wait_for("runs")
    for _ in range(5):
        queue.submit(*save_of("runs"), idempotency_key="runs")
        with pytest.raises(ConflictError):
            queue.submit(*save_of("other"), idempotency_key="runs")
    assert queue.stats().num_queued == 0


def test_a_submit_waits_for_room(open_queue: OpenQueue, gate: Gate) -> None:
    settings = QueueSettings(max_queued=2, submit_wait_s=PATIENCE_S)
    queue = open_queue(ToyMachine(gate=gate), settings=settings)
    fill(queue, gate)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(queue.submit, *save_of("d"), idempotency_key="d")
        gate.let_pass()
        assert waiting.result(PATIENCE_S) == "d"


def test_a_body_larger_than_the_queue_is_refused_for_good(open_queue: OpenQueue) -> None:
    queue = open_queue(ToyMachine(), settings=QueueSettings(max_queued_bytes=1_000))
    with pytest.raises(UsageError, match="the queue holds at most 1000"):
        queue.submit(*save_of("x" * 1_000))


def test_stats_tell_what_waits_and_what_runs(open_queue: OpenQueue, gate: Gate) -> None:
    queue = open_queue(ToyMachine(gate=gate))
    fill(queue, gate)
    stats = queue.stats()
    assert (stats.num_queued, stats.running) == (2, "runs")
    assert stats.queued_bytes > 0


def test_a_cancelled_operation_never_runs(open_queue: OpenQueue, gate: Gate) -> None:
    machine = ToyMachine(gate=gate)
    queue = open_queue(machine)
    fill(queue, gate)
    assert queue.cancel("b")
    assert queue.cancel("b")
    status = queue.wait("b", 0)
    assert (status.status, status.error_class) == ("error", "OperationCancelledError")
    assert status.error_body is not None
    assert isinstance(error_from_body(status.error_body), OperationCancelledError)
    assert queue.stats().num_queued == 1
    gate.open()
    queue.wait("c", PATIENCE_S)
    assert machine.names == ["runs", "c"]


def test_a_cancel_wakes_who_waits(open_queue: OpenQueue, gate: Gate) -> None:
    queue = open_queue(ToyMachine(gate=gate))
    fill(queue, gate)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(queue.wait, "b", PATIENCE_S)
        queue.cancel("b")
        assert waiting.result(PATIENCE_S).error_class == "OperationCancelledError"


def test_what_runs_or_has_ended_cannot_be_cancelled(open_queue: OpenQueue, gate: Gate) -> None:
    queue = open_queue(ToyMachine(gate=gate))
    fill(queue, gate)
    assert not queue.cancel("runs")
    gate.let_pass()
    assert queue.wait("runs", PATIENCE_S).status == "done"
    assert not queue.cancel("runs")


def test_an_unknown_operation_cannot_be_cancelled(open_queue: OpenQueue) -> None:
    with pytest.raises(UnknownRequestError):
        open_queue(ToyMachine()).cancel("nobody")


def test_close_finishes_what_runs_and_leaves_what_waits(
    open_queue: OpenQueue, gate: Gate, tmp_path: Path
) -> None:
    machine = ToyMachine(gate=gate)
    queue = open_queue(machine, tmp_path)
    fill(queue, gate)
    with ThreadPoolExecutor() as pool:
        running, queued = (pool.submit(queue.wait, key, PATIENCE_S) for key in ("runs", "b"))
        while len(queue._results._waiters) < 2:  # pyright: ignore[reportPrivateUsage]
            threading.Event().wait(0)
        closing = pool.submit(queue.close)
        with pytest.raises(ServerShutdownError, match="the run is closing"):
            queued.result(PATIENCE_S)
        gate.let_pass()
        assert running.result(PATIENCE_S).status == "done"
        assert closing.result(PATIENCE_S)
    assert (machine.names, machine.is_closed) == (["runs"], True)
    again = ToyMachine()
    queue = open_queue(again, tmp_path)
    assert queue.wait("c", PATIENCE_S).status == "done"
    assert again.names == ["runs", "b", "c"]


def test_close_waits_only_so_long_for_what_runs(
    open_queue: OpenQueue, gate: Gate, tmp_path: Path
) -> None:
    queue = open_queue(ToyMachine(gate=gate), tmp_path, QueueSettings(close_wait_s=0))
    fill(queue, gate)
    assert not queue.close()
    with pytest.raises(ServerShutdownError):
        queue.wait("runs", PATIENCE_S)
    with pytest.raises(UsageError, match="is open in process"):
        open_queue(ToyMachine(), tmp_path)
    gate.let_pass()
    queue._sequencer.close(PATIENCE_S)  # pyright: ignore[reportPrivateUsage]
    assert open_queue(ToyMachine(), tmp_path).wait("runs", PATIENCE_S).status == "done"


def test_a_closed_queue_refuses_everything(open_queue: OpenQueue) -> None:
    queue = open_queue(ToyMachine())
    key = queue.submit(*look())
    assert queue.close()
    assert queue.close()
    for call in (
        lambda: queue.submit(*look()),
        lambda: queue.wait(key, 0),
        lambda: queue.cancel(key),
    ):
        with pytest.raises(ServerShutdownError):
            call()


def test_a_second_queue_on_one_directory_is_refused(open_queue: OpenQueue, tmp_path: Path) -> None:
    first = open_queue(ToyMachine(), tmp_path)
    machine = ToyMachine()
    with pytest.raises(UsageError, match="is open in process"):
        open_queue(machine, tmp_path)
    assert not machine.is_closed
    assert first.wait(first.submit(*look()), PATIENCE_S).status == "done"


def test_an_open_that_failed_leaves_the_directory_free(
    open_queue: OpenQueue, tmp_path: Path
) -> None:
    (tmp_path / "log.sqlite").write_text("no log" * 1_000)
    for _ in range(2):
        with pytest.raises(Exception, match="is not an operation log"):
            open_queue(ToyMachine(), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("on_disk", [False, True])
def test_1000_submits_from_8_threads_run_in_order_of_arrival_each_once(
    open_queue: OpenQueue, tmp_path: Path, on_disk: bool
) -> None:
    machine = ToyMachine()
    queue = open_queue(machine, tmp_path if on_disk else None)
    start = threading.Barrier(8)

    def submit_some(thread: int) -> list[str]:
        start.wait(PATIENCE_S)
        return [queue.submit(*save_of(f"{thread}-{n}")) for n in range(125)]

    with ThreadPoolExecutor(8) as pool:
        keys = [key for submitted in pool.map(submit_some, range(8)) for key in submitted]
    assert all(queue.wait(key, PATIENCE_S).status == "done" for key in keys)
    assert machine.sequences == list(range(1, 1_001))
    assert sorted(machine.names) == sorted(f"{t}-{n}" for t in range(8) for n in range(125))
    for thread in range(8):
        own = [name for name in machine.names if name.startswith(f"{thread}-")]
        assert own == [f"{thread}-{n}" for n in range(125)]
