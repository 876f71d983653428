"""What only a log in a file has to promise: commits, replay, and what is refused."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from tests.recovery.toy import PATIENCE_S, FakeClock, save_of
from tests.unit.loops_core.worker.test_log import NEW, append, end, run

from loops_core.errors import CheckpointError
from loops_core.types.frames import pack
from loops_core.worker.entries import Outcome
from loops_core.worker.lifecycle import EntryState
from loops_core.worker.log_durable import DurableLog


@contextmanager
def counted_commits() -> Generator[list[object]]:
    """Return a list that grows with every commit."""
    commits: list[object] = []

    def count(connection: object) -> None:
        commits.append(connection)

    event.listen(sa.Engine, "commit", count)
    try:
        yield commits
    finally:
        event.remove(sa.Engine, "commit", count)


def test_what_a_process_wrote_itself_is_known_without_a_look_at_the_disk(
    tmp_path: Path, fake_clock: FakeClock
) -> None:
    path = tmp_path / "log.sqlite"
    with closing(DurableLog.open(path, clock=fake_clock)) as log:
        append(log, "a")
        assert log.peek("a") is not None
        run(log)
        outcome = log.peek("a")
        assert outcome is not None
        assert outcome.result == b"result"
    with closing(DurableLog.open(path, clock=fake_clock)) as log:
        assert log.peek("a") is None
        assert log.find("a").result() == outcome


def test_a_result_that_a_replay_needs_does_not_expire(
    tmp_path: Path, fake_clock: FakeClock
) -> None:
    with closing(DurableLog.open(tmp_path / "log.sqlite", clock=fake_clock)) as log:
        append(log, "a")
        stored = run(log, at_s=fake_clock.now())
        fake_clock.advance(1_000)
        log.expire(results_kept_s=10, keys_kept_s=20)
        replayed = log.next_to_replay(0)
        assert replayed is not None
        assert (replayed.body, replayed.result) == (stored.body, b"result")


def test_bodies_go_behind_the_older_of_two_snapshots(tmp_path: Path, fake_clock: FakeClock) -> None:
    with closing(DurableLog.open(tmp_path / "log.sqlite", clock=fake_clock)) as log:
        for key in "abc":
            append(log, key)
            run(log)
        assert log.add_snapshot(1, 10, kept=2) == []
        log.check_replayable(0)
        assert log.add_snapshot(2, 10, kept=2) == []
        log.check_replayable(1)
        with pytest.raises(CheckpointError, match="the state behind log entry 1 is lost"):
            log.check_replayable(0)
        assert log.add_snapshot(3, 10, kept=2) == [1]
        assert log.snapshots() == [3, 2]


def test_an_entry_is_taken_once_by_whoever_comes_first(
    tmp_path: Path, fake_clock: FakeClock
) -> None:
    log = DurableLog.open(tmp_path / "log.sqlite", clock=fake_clock)
    go = threading.Event()
    with closing(log), ThreadPoolExecutor() as pool:
        assert log.take() is None
        busy = log._database.submit(lambda _: go.wait(PATIENCE_S))  # pyright: ignore[reportPrivateUsage]
        waiting = log._database._waiting  # pyright: ignore[reportPrivateUsage]
        while waiting:
            threading.Event().wait(0)
        kind, body = save_of("good")
        appends = [log.append(kind, pack(body), key) for key in "ab"]
        taking = pool.submit(log.take)
        while len(waiting) < 3:
            threading.Event().wait(0)
        go.set()
        assert [append.result() for append in appends] == [NEW, NEW]
        assert busy.result()
        first = taking.result()
        assert first is not None
        assert first.operation_id == "a"
        end(log, first, EntryState.DONE, at_s=0)
        assert run(log).operation_id == "b"
        assert log.take() is None


def test_an_append_to_an_idle_log_is_one_commit_with_its_take(
    tmp_path: Path, fake_clock: FakeClock
) -> None:
    log = DurableLog.open(tmp_path / "log.sqlite", clock=fake_clock)
    with closing(log), counted_commits() as commits:
        assert log.take() is None
        commits.clear()
        append(log, "a")
        taken = log.take()
        assert taken is not None
        assert (taken.operation_id, taken.attempts) == ("a", 1)
        outcome = Outcome(operation_id="a", kind=taken.kind, state=EntryState.DONE, finished_s=0)
        assert log.finish(taken.sequence, outcome, take=True) is None
        assert len(commits) == 2


def test_what_was_taken_and_never_begun_is_no_attempt(
    tmp_path: Path, fake_clock: FakeClock
) -> None:
    path = tmp_path / "log.sqlite"
    with closing(DurableLog.open(path, clock=fake_clock)) as log:
        assert log.take() is None
        append(log, "a")
        append(log, "b")
    with closing(DurableLog.open(path, clock=fake_clock)) as log:
        assert log.interrupted() is None
        assert log.count_queued()[0] == 2
        taken = log.take()
        assert taken is not None
        assert (taken.operation_id, taken.attempts) == ("a", 1)


def test_a_file_that_is_no_log_is_refused(tmp_path: Path, fake_clock: FakeClock) -> None:
    path = tmp_path / "log.sqlite"
    path.write_bytes(b"no database at all, but long enough to look like one" * 100)
    with pytest.raises(CheckpointError, match="is not an operation log"):
        DurableLog.open(path, clock=fake_clock)


def test_a_log_of_another_version_is_refused(tmp_path: Path, fake_clock: FakeClock) -> None:
    path = tmp_path / "log.sqlite"
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version=99")
    with pytest.raises(CheckpointError, match="of format 99: expected 1"):
        DurableLog.open(path, clock=fake_clock)
