"""A cassette's file: readable while it is written, checked when it is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.loops_mock.cassette.program import recorded

from loops_core.errors import UsageError
from loops_mock.cassette import record
from loops_mock.cassette.parsing import load_cassette


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "run.loops"
    recorded(path, steps=2)
    return path.read_bytes()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "cut.loops"


@given(st.data())
def test_every_prefix_is_read_up_to_its_last_whole_line(
    whole: bytes, scratch: Path, data: st.DataObject
) -> None:
    start = whole.index(b"\n") + 1
    scratch.write_bytes(whole[: data.draw(st.integers(start, len(whole) - 1))])
    tape = load_cassette(scratch)
    scratch.write_bytes(whole)
    everything = load_cassette(scratch)
    numbers = {call.number for call in tape.calls}
    assert [call for call in everything.calls if call.number in numbers] == tape.calls
    assert not tape.is_whole
    assert everything.is_whole


@given(st.data())
def test_a_changed_byte_is_noticed(whole: bytes, scratch: Path, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, whole.rindex(b"\n", 0, -1)))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    scratch.write_bytes(changed)
    with pytest.raises(UsageError, match="no cassette that can be read"):
        load_cassette(scratch)


def test_a_line_that_was_written_is_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.loops"
    with record(path) as recorder:
        recorder.opened("inproc:mock", None)
        assert load_cassette(path).services == ["inproc:mock"]


def test_a_file_of_another_version_is_refused_by_its_version(tmp_path: Path) -> None:
    path = tmp_path / "new.loops"
    path.write_text(json.dumps({"loops_cassette": 2}) + "\n")
    with pytest.raises(UsageError, match="of version 2"):
        load_cassette(path)


@pytest.mark.parametrize("text", ["", "{}\n", "no json\n", '{"loops_cassette":1}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.loops"
    path.write_text(text)
    with pytest.raises(UsageError, match="does not name loops_cassette"):
        load_cassette(path)


def test_a_missing_file_is_refused_with_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"record it first with loops_mock\.cassette\.record"):
        load_cassette(tmp_path / "none.loops")


def test_a_file_that_is_there_is_not_recorded_over_by_chance(tmp_path: Path) -> None:
    path = tmp_path / "run.loops"
    with record(path):
        pass
    with pytest.raises(UsageError, match="overwrite=True"), record(path):
        pass
    with record(path, overwrite=True):
        pass
