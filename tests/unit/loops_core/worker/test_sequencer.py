"""Entries run one at a time in the order of the log, and a failed one leaves no trace."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from tests.recovery.toy import PATIENCE_S, FakeClock, Gate, ToyMachine, load_of, look, save_of
from tests.unit.loops_core.worker.conftest import OpenQueue

from loops_core.errors import CheckpointError
from loops_core.types.training import ForwardBackwardOutput


def test_entries_behind_a_failed_one_still_run(open_queue: OpenQueue) -> None:
    machine = ToyMachine()
    queue = open_queue(machine)
    keys = [queue.submit(*save_of(name)) for name in ("a", "bad", "odd", "b")]
    statuses = [queue.wait(key, PATIENCE_S).status for key in keys]
    assert statuses == ["done", "error", "error", "done"]
    assert machine.names == ["a", "b"]


def test_results_show_the_state_at_their_place_in_the_log(
    open_queue: OpenQueue, gate: Gate
) -> None:
    queue = open_queue(ToyMachine(gate=gate))
    keys = [queue.submit(*operation) for operation in (save_of("a"), look(), save_of("b"), look())]
    gate.open()
    results = [queue.wait(key, PATIENCE_S).result for key in keys[1::2]]
    assert results == [ForwardBackwardOutput(loss=1.0), ForwardBackwardOutput(loss=2.0)]


def test_the_machine_is_closed_with_the_queue(open_queue: OpenQueue) -> None:
    machine = ToyMachine()
    assert open_queue(machine).close()
    assert machine.is_closed


def test_what_waited_runs_when_the_run_is_opened_again(
    open_queue: OpenQueue, gate: Gate, tmp_path: Path
) -> None:
    queue = open_queue(ToyMachine(gate=gate), tmp_path)
    keys = [queue.submit(*save_of(name)) for name in "abcd"]
    gate.wait_for(keys[0])
    gate.let_pass()
    assert queue.close()
    machine = ToyMachine()
    again = open_queue(machine, tmp_path)
    assert again.wait(keys[-1], PATIENCE_S).status == "done"
    assert machine.names == list("abcd")


def test_results_outlive_the_process(
    open_queue: OpenQueue, tmp_path: Path, fake_clock: FakeClock
) -> None:
    queue = open_queue(ToyMachine(), tmp_path)
    keys = [queue.submit(*operation) for operation in (save_of("a"), save_of("bad"), load_of("x"))]
    before = [queue.wait(key, PATIENCE_S) for key in keys]
    assert queue.close()
    fake_clock.advance(3_599)
    again = open_queue(ToyMachine(), tmp_path)
    assert [again.wait(key, 0) for key in keys] == before


def test_a_log_in_memory_forgets_everything(open_queue: OpenQueue) -> None:
    queue = open_queue(ToyMachine())
    queue.wait(queue.submit(*save_of("a")), PATIENCE_S)
    assert queue.close()
    machine = ToyMachine()
    open_queue(machine)
    assert machine.names == []


def test_a_log_of_another_version_is_refused_and_left_alone(
    open_queue: OpenQueue, tmp_path: Path
) -> None:
    machine = ToyMachine()
    machine.faults.add("save_fails")  # without a snapshot the log has to be read
    queue = open_queue(machine, tmp_path)
    key = queue.submit(*save_of("a"))
    queue.wait(key, PATIENCE_S)
    assert queue.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "log.sqlite")) as db:
        db.execute("UPDATE bodies SET body = CAST(replace(body, 'LOOPSF2', 'LOOPSF1') AS BLOB)")
        db.commit()
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"entry 1 cannot be read.*version that wrote"):
            open_queue(ToyMachine(), tmp_path)
