"""One thread, one connection, and one commit for what waits together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from tests.recovery.toy import PATIENCE_S

from loops_core.errors import ServerShutdownError, TransportError, UsageError
from loops_core.worker.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "test.sqlite")
    database.run(lambda db: db.exec_driver_sql("CREATE TABLE numbers (n INTEGER UNIQUE)").close())
    yield database
    database.close()


def add(number: int) -> sa.TextClause:
    return sa.text("INSERT INTO numbers VALUES (:n)").bindparams(n=number)


def numbers(database: Database) -> list[int]:
    return database.run(lambda db: list(db.execute(sa.text("SELECT n FROM numbers")).scalars()))


class Held:
    """Keeps the database's thread busy until it is let go, so that tasks gather behind it."""

    def __init__(self, database: Database) -> None:
        self._started, self._go = threading.Event(), threading.Event()
        self._done = database.submit(self._hold)
        assert self._started.wait(PATIENCE_S)

    def let_go(self) -> None:
        self._go.set()
        self._done.result(PATIENCE_S)

    def _hold(self, _db: sa.Connection) -> None:
        self._started.set()
        assert self._go.wait(PATIENCE_S)


def submit_all(database: Database, inserted: list[int]) -> list[Future[int]]:
    return [
        database.submit(lambda db, number=number: db.execute(add(number)).rowcount)
        for number in inserted
    ]


def test_tasks_that_wait_together_share_one_commit(database: Database) -> None:
    held = Held(database)
    futures = submit_all(database, list(range(100)))
    commits: list[sa.Connection] = []

    def note(connection: sa.Connection) -> None:
        commits.append(connection)

    event.listen(sa.Engine, "commit", note)
    try:
        held.let_go()
        assert [future.result(PATIENCE_S) for future in futures] == [1] * 100
    finally:
        event.remove(sa.Engine, "commit", note)
    assert len(commits) == 2  # the one that was held, and one for all the others


def test_tasks_run_in_the_order_of_their_submits(database: Database) -> None:
    submit_all(database, [5, 3, 9, 1])
    assert numbers(database) == [5, 3, 9, 1]


def test_a_failed_task_takes_no_other_with_it(database: Database) -> None:
    held = Held(database)

    def refuse(_db: sa.Connection) -> None:
        raise UsageError("no")

    good, twice = submit_all(database, [1, 1])
    refused = database.submit(refuse)
    (last,) = submit_all(database, [2])
    held.let_go()
    assert good.result(PATIENCE_S) == last.result(PATIENCE_S) == 1
    assert isinstance(twice.exception(PATIENCE_S), TransportError)
    assert isinstance(refused.exception(PATIENCE_S), UsageError)
    assert numbers(database) == [1, 2]


def test_a_failure_does_not_show_what_was_to_be_written(database: Database) -> None:
    submit_all(database, [271828])
    (twice,) = submit_all(database, [271828])
    error = twice.exception(PATIENCE_S)
    assert error is not None
    assert "271828" not in f"{error} {error.__cause__}"


def test_a_task_whose_caller_has_gone_is_not_run(database: Database) -> None:
    held = Held(database)
    gone, kept = submit_all(database, [1, 2])
    assert gone.cancel()
    held.let_go()
    assert kept.result(PATIENCE_S) == 1
    assert numbers(database) == [2]


def test_what_waits_is_written_before_the_close(tmp_path: Path) -> None:
    database = Database(tmp_path / "test.sqlite")
    database.run(lambda db: db.exec_driver_sql("CREATE TABLE numbers (n INTEGER)").close())
    submit_all(database, [1, 2, 3])
    database.close()
    database.close()
    reopened = Database(tmp_path / "test.sqlite")
    assert numbers(reopened) == [1, 2, 3]
    reopened.close()


def test_a_closed_database_refuses_tasks(database: Database) -> None:
    database.close()
    with pytest.raises(ServerShutdownError):
        numbers(database)


def test_a_file_is_flushed_to_the_disk_at_every_commit(tmp_path: Path) -> None:
    database = Database(tmp_path / "test.sqlite")

    def pragma(name: str) -> object:
        return database.run(lambda db: db.exec_driver_sql(f"PRAGMA {name}").scalar())

    full = 2
    assert (pragma("journal_mode"), pragma("synchronous")) == ("wal", full)
    database.close()


def test_who_is_told_of_a_commit_is_told_before_anybody_else(database: Database) -> None:
    told: list[int] = []
    future = database.submit(lambda _: 5, on_commit=told.append)
    future.add_done_callback(lambda done: told.append(done.result() + 1))
    database.run(lambda _: None)
    assert told == [5, 6]


def test_nobody_is_told_of_a_commit_that_failed(database: Database) -> None:
    told: list[None] = []

    def refuse(_: sa.Connection) -> None:
        raise UsageError("no")

    with pytest.raises(UsageError):
        database.run(refuse, on_commit=told.append)
    assert told == []


def test_an_inline_database_runs_tasks_on_the_thread_that_submits_them(tmp_path: Path) -> None:
    database = Database(tmp_path / "inline.sqlite", is_inline=True)
    create = "CREATE TABLE numbers (n INTEGER UNIQUE)"
    database.run(lambda db: db.exec_driver_sql(create).close())
    threads = [database.submit(lambda _: threading.get_ident()) for _ in range(2)]
    assert all(future.done() for future in threads)
    assert {future.result() for future in threads} == {threading.get_ident()}
    submit_all(database, [1, 2])
    database.close()
    again = Database(tmp_path / "inline.sqlite", is_inline=True)
    assert numbers(again) == [1, 2]
    again.close()
    with pytest.raises(ServerShutdownError):
        again.submit(lambda _: None)
