"""What a cached directory promises: all of it or nothing, made once."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import platformdirs
import pytest

from loops_backend_jax.resolvers.cache import make_cache_root, make_once


def write_pair(directory: Path) -> None:
    (directory / "a").write_text("first")
    (directory / "b").write_text("second")


def test_the_cache_root_follows_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOOPS_CACHE_DIR", str(tmp_path / "here"))
    assert make_cache_root() == tmp_path / "here"


def test_without_its_variable_the_cache_root_is_the_platforms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LOOPS_CACHE_DIR", raising=False)
    assert make_cache_root() == platformdirs.user_cache_path("loops", appauthor=False)


def test_a_complete_directory_is_not_written_again(tmp_path: Path) -> None:
    target = make_once(tmp_path / "deep" / "model", ("a", "b"), write_pair)
    (target / "a").write_text("kept")
    again = make_once(target, ("a", "b"), write_pair)
    assert (again / "a").read_text() == "kept"


def test_a_writer_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        (directory / "a").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        make_once(tmp_path / "model", ("a", "b"), fail)
    assert list(tmp_path.iterdir()) == []


def test_the_name_appears_only_when_all_files_are_written(tmp_path: Path) -> None:
    target = tmp_path / "model"
    seen: list[bool] = []

    def write(directory: Path) -> None:
        write_pair(directory)
        seen.append(target.exists())

    make_once(target, ("a", "b"), write)
    assert seen == [False]


def test_a_directory_that_lacks_a_file_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "a").write_text("stale")
    make_once(target, ("a", "b"), write_pair)
    assert {path.name: path.read_text() for path in target.iterdir()} == {
        "a": "first",
        "b": "second",
    }
    assert list(tmp_path.iterdir()) == [target]


def test_a_writer_that_leaves_out_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="left out c"):
        make_once(tmp_path / "model", ("a", "c"), write_pair)
    assert list(tmp_path.iterdir()) == []


def test_of_two_writers_at_once_one_wins_and_both_find_it(tmp_path: Path) -> None:
    both_at_work = threading.Barrier(2, timeout=5)
    found: list[str] = []

    def make(mark: str) -> None:
        def write(directory: Path) -> None:
            both_at_work.wait()
            (directory / "a").write_text(mark)

        found.append((make_once(tmp_path / "model", ("a",), write) / "a").read_text())

    threads = [threading.Thread(target=make, args=(mark,)) for mark in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=5)
    assert found in (["one", "one"], ["two", "two"])
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_a_killed_writer_left_is_removed_after_a_day(tmp_path: Path) -> None:
    old, new = (tmp_path / f".making-model-{name}" for name in ("old", "new"))
    for room in (old, new):
        (room / "model").mkdir(parents=True)
    os.utime(old, (0, 0))
    make_once(tmp_path / "model", ("a", "b"), write_pair)
    assert not old.exists()
    assert new.exists()
