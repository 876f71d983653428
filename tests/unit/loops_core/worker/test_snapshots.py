"""Snapshots: when they are taken, what they let go, and what is done without them."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from tests.recovery.toy import PATIENCE_S, ToyMachine, load_of, look, save_of
from tests.unit.loops_core.worker.conftest import OpenQueue

from loops_core.errors import CheckpointError
from loops_core.worker.host import OperationQueue
from loops_core.worker.queue_settings import QueueSettings

EVERY_TWO: Final = QueueSettings(snapshot_entries=2)
NEVER: Final = QueueSettings(snapshot_entries=1_000)


def run(queue: OperationQueue, *names: str) -> None:
    for name in names:
        assert queue.wait(queue.submit(*save_of(name)), PATIENCE_S).status == "done"


def snapshots(directory: Path) -> list[Path]:
    return sorted((directory / "snapshots").iterdir())


def damage(snapshot: Path) -> None:
    path = snapshot / "state" / "second.json"
    path.write_text(path.read_text().replace("o", "0"))


def make_run(open_queue: OpenQueue, directory: Path, num_names: int) -> list[str]:
    """Return the names of a run that took a snapshot behind every second of them."""
    names = [f"good-{n}" for n in range(num_names)]
    queue = open_queue(ToyMachine(), directory, EVERY_TWO)
    run(queue, *names)
    assert queue.close()
    return names


def test_a_snapshot_is_taken_after_so_many_changes(open_queue: OpenQueue, tmp_path: Path) -> None:
    machine = ToyMachine()
    queue = open_queue(machine, tmp_path, EVERY_TWO)
    run(queue, "a", "b", "c", "d", "e")
    assert machine.num_saves == 2
    assert queue.close()
    assert machine.num_saves == 3


def test_a_snapshot_is_taken_after_so_many_bytes(open_queue: OpenQueue, tmp_path: Path) -> None:
    machine = ToyMachine()
    queue = open_queue(machine, tmp_path, replace(NEVER, snapshot_bytes=10_000))
    run(queue, "x" * 4_000)  # as many bytes again are its result's
    assert machine.num_saves == 0
    run(queue, "x" * 1_000, "y")
    assert machine.num_saves == 1


def test_a_snapshot_is_taken_behind_what_was_read_from_outside(
    open_queue: OpenQueue, tmp_path: Path
) -> None:
    machine = ToyMachine()
    queue = open_queue(machine, tmp_path, NEVER)
    queue.wait(queue.submit(*load_of("elsewhere")), PATIENCE_S)
    run(queue, "next")
    assert machine.num_saves == 1


def test_what_changes_nothing_needs_no_snapshot(open_queue: OpenQueue, tmp_path: Path) -> None:
    machine = ToyMachine()
    queue = open_queue(machine, tmp_path, QueueSettings(snapshot_entries=1))
    for operation in (look(), save_of("bad"), save_of("odd")):
        queue.wait(queue.submit(*operation), PATIENCE_S)
    assert queue.close()
    assert machine.num_saves == 0


def test_a_closed_run_opens_without_replay(open_queue: OpenQueue, tmp_path: Path) -> None:
    names = make_run(open_queue, tmp_path, 5)
    machine = ToyMachine()
    open_queue(machine, tmp_path)
    assert (machine.names, machine.num_replayed) == (names, 0)


def test_two_snapshots_are_kept(open_queue: OpenQueue, tmp_path: Path) -> None:
    make_run(open_queue, tmp_path, 20)
    assert [path.name for path in snapshots(tmp_path)] == ["000000000018", "000000000020"]


@pytest.mark.slow
def test_the_log_stays_small(open_queue: OpenQueue, tmp_path: Path) -> None:
    queue = open_queue(ToyMachine(), tmp_path, NEVER)
    for _ in range(30):  # a snapshot behind each
        queue.wait(queue.submit(*load_of("x" * 50_000)), PATIENCE_S)
    assert queue.close()
    assert (tmp_path / "log.sqlite").stat().st_size < 6 * 50_000


def test_a_damaged_snapshot_is_passed_over(
    open_queue: OpenQueue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = make_run(open_queue, tmp_path, 6)
    older, newest = snapshots(tmp_path)
    damage(newest)
    machine = ToyMachine()
    with caplog.at_level(logging.WARNING):
        open_queue(machine, tmp_path)
    assert (machine.names, machine.num_replayed) == (names, 2)
    assert "snapshot 6 is passed over" in caplog.text
    assert "second.json" in caplog.text
    assert snapshots(tmp_path) == [older]


def test_a_damaged_snapshot_counts_no_more(open_queue: OpenQueue, tmp_path: Path) -> None:
    names = make_run(open_queue, tmp_path, 6)
    damage(snapshots(tmp_path)[-1])
    queue = open_queue(ToyMachine(), tmp_path, NEVER)
    run(queue, "later")
    assert queue.close()
    damage(snapshots(tmp_path)[-1])  # the good one before it is still there to fall back to
    machine = ToyMachine()
    open_queue(machine, tmp_path)
    assert machine.names == [*names, "later"]


def test_a_snapshot_reaches_the_disk(
    open_queue: OpenQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[int] = set()
    fsync = os.fsync

    def note(descriptor: int) -> None:
        flushed.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)  # a loss of power cannot be played
    make_run(open_queue, tmp_path, 2)
    folder = tmp_path / "snapshots"
    assert {path.stat().st_ino for path in (tmp_path, folder, *folder.rglob("*"))} <= flushed


@pytest.mark.parametrize("lost", ["manifest.json", "state/half/first.json", "state/second.json"])
def test_a_snapshot_that_misses_a_file_is_passed_over(
    open_queue: OpenQueue, tmp_path: Path, lost: str
) -> None:
    names = make_run(open_queue, tmp_path, 4)
    (snapshots(tmp_path)[-1] / lost).unlink()
    machine = ToyMachine()
    open_queue(machine, tmp_path)
    assert (machine.names, machine.num_replayed) == (names, 2)


def test_without_its_only_snapshot_a_run_is_replayed_from_the_start(
    open_queue: OpenQueue, tmp_path: Path
) -> None:
    names = make_run(open_queue, tmp_path, 2)
    (only,) = snapshots(tmp_path)
    damage(only)
    machine = ToyMachine()
    open_queue(machine, tmp_path)
    assert (machine.names, machine.num_replayed) == (names, 2)


def test_a_run_without_a_good_snapshot_is_refused_and_left_alone(
    open_queue: OpenQueue, tmp_path: Path
) -> None:
    make_run(open_queue, tmp_path, 6)
    before = snapshots(tmp_path)
    for snapshot in before:
        damage(snapshot)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="its snapshots are damaged or missing"):
            open_queue(ToyMachine(), tmp_path)
    assert snapshots(tmp_path) == before


def test_what_a_crash_left_behind_is_removed(open_queue: OpenQueue, tmp_path: Path) -> None:
    names = make_run(open_queue, tmp_path, 2)
    for leftover in (".staging", "000000000099"):
        (tmp_path / "snapshots" / leftover / "state").mkdir(parents=True)
    machine = ToyMachine()
    open_queue(machine, tmp_path)
    assert machine.names == names
    assert [path.name for path in snapshots(tmp_path)] == ["000000000002"]


def test_a_snapshot_that_fails_is_only_a_warning(
    open_queue: OpenQueue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine = ToyMachine()
    machine.faults.add("save_fails")
    queue = open_queue(machine, tmp_path, EVERY_TWO)
    run(queue, "a", "b", "c")
    assert "no snapshot behind entry 2: [Errno 28] No space left on device" in caplog.text
    machine.faults.clear()
    assert queue.close()
    again = ToyMachine()
    open_queue(again, tmp_path)
    assert (again.names, again.num_replayed) == (["a", "b", "c"], 0)


def test_a_log_in_memory_takes_no_snapshots(open_queue: OpenQueue) -> None:
    machine = ToyMachine()
    queue = open_queue(machine, settings=QueueSettings(snapshot_entries=1))
    run(queue, "a", "b")
    assert queue.close()
    assert machine.num_saves == 0
