"""What is recorded and replayed, and for how long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.loops_mock.cassette.program import MOCK, recorded, train

from loops_core import ModelInput, ServiceClient
from loops_core.errors import UsageError
from loops_mock.cassette import record, replay
from loops_mock.cassette.active import RECORD_VARIABLE
from loops_mock.cassette.diffing import diff_cassettes
from loops_mock.cassette.parsing import load_cassette


@pytest.mark.slow
def test_a_program_is_recorded_and_replayed_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "run.loops"
    code = "from tests.unit.loops_mock.cassette.program import train; print(train(None, steps=1))"

    def run(**variables: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = run(LOOPS_BASE_URL=MOCK, **{RECORD_VARIABLE: str(path)})
    assert load_cassette(path).is_whole
    assert run(LOOPS_BASE_URL=f"cassette:{path}") == said


def test_a_recording_ends_with_its_block_and_the_client_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run.loops"
    with ServiceClient(base_url=MOCK) as before:
        with record(path):
            inside = ServiceClient(base_url=MOCK)
            before.create_sampling_client("mock-tiny")
        raw = path.read_bytes()
        with inside:
            inside.create_sampling_client("mock-tiny").sample(ModelInput.from_ints([1]))
    assert path.read_bytes() == raw
    assert load_cassette(path).calls == []


def test_a_replay_can_be_recorded(tmp_path: Path) -> None:
    said = recorded(tmp_path / "a")
    with replay(tmp_path / "a"), record(tmp_path / "b"):
        assert train("https://nowhere.invalid") == said
    assert diff_cassettes(load_cassette(tmp_path / "a"), load_cassette(tmp_path / "b")) is None


def test_a_wish_for_unknown_calls_is_checked(tmp_path: Path) -> None:
    recorded(tmp_path / "a", steps=1)
    wish: list[object] = ["ignore"]
    with (
        pytest.raises(UsageError, match="unknown must be 'refuse' or 'pass', not 'ignore'"),
        replay(tmp_path / "a", unknown=wish[0]),  # type: ignore[arg-type]  # that is the point
    ):
        pass
