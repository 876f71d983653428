"""A training on the JAX backend, recorded once and replayed without it.

Short: 12 operations. `LOOPS_LONG_CASSETTES=1`: 1,000, and a replay has to be 50 times as fast.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from tests.cassettes import program
from tests.cassettes.program import Training, digest, record_to

from loops_core.types.base import WireModel
from loops_mock.cassette import replay

IS_LONG: Final = os.environ.get("LOOPS_LONG_CASSETTES") == "1"
OPERATIONS: Final = 1_000 if IS_LONG else 12
FASTER: Final = 50 if IS_LONG else 3
"""A short recording is too short to be measured on a busy machine."""

RecordProperty = Callable[[str, object], None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800 if IS_LONG else 300),
    pytest.mark.skipif(
        importlib.util.find_spec("loops_backend_jax") is None,
        reason="the distribution loops_backend_jax is not installed",
    ),
]


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded training.

    Attributes:
        path: its cassette.
        training: what was recorded.
        results: what it read.
        seconds: how long it took.
    """

    path: Path
    training: Training
    results: list[WireModel]
    seconds: float


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    training = Training(OPERATIONS)
    url = "inproc:jax?data_dir=:memory:"
    if IS_LONG:
        Training(2).run(url)  # what is compiled is compiled before the time is taken
    for step in range(OPERATIONS // 2):
        program.batch(step)
    path = tmp_path_factory.mktemp("jax") / "run.loops"
    begun = time.perf_counter()
    results = record_to(path, training, url)
    return Recording(path, training, results, time.perf_counter() - begun)


def test_a_replay_is_much_faster_with_threads_and_shuffled_polls(
    recording: Recording, record_property: RecordProperty
) -> None:
    begun = time.perf_counter()
    with replay(recording.path):
        results = recording.training.run("inproc:jax", threads=64, seed=1)
    seconds = time.perf_counter() - begun
    assert results == recording.results
    record_property("operations", len(results))
    record_property("recorded_s", round(recording.seconds, 2))
    record_property("replayed_s", round(seconds, 2))
    record_property("times_as_fast", round(recording.seconds / seconds))
    assert recording.seconds / seconds >= FASTER


def test_a_cassette_is_hardly_larger_than_its_arrays(
    recording: Recording, record_property: RecordProperty
) -> None:
    size = recording.path.stat().st_size
    ratio = size / recording.training.raw_bytes(recording.results)
    record_property("of_raw_arrays", round(ratio, 2))
    assert ratio <= 1.2


@pytest.mark.parametrize("threads", [1, 64])
def test_a_replay_needs_no_jax(recording: Recording, threads: int) -> None:
    url = f"cassette:{recording.path}"
    done = subprocess.run(
        [sys.executable, program.__file__, url, str(OPERATIONS), str(threads)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest(recording.results)
