"""A process that is killed anywhere loses nothing, and what it did is not done again."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
NUM_OPERATIONS: Final = 20
NUM_POINTS: Final = 800
"""About as many points as a process passes that works through the operations once."""

RANDOM: Final = random.Random(2)
LONG: Final = os.environ.get("LOOPS_LONG_RECOVERY") == "1"


def kill(root: Path, kills: list[list[int]], by: str) -> dict[str, Any]:
    plan = {"root": str(root), "num_operations": NUM_OPERATIONS, "kills": kills, "by": by}
    found = subprocess.run(
        [sys.executable, "-m", "tests.recovery.killed_worker"],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # one thread, so that forks are safe
        input=json.dumps(plan),
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def check(found: dict[str, Any]) -> None:
    alone, *killed = found["finals"]
    assert found["num_killed"] > 0
    assert all(final == alone for final in killed)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # of the long form
def test_process_that_kills_itself_at_any_point_ends_as_one_left_alone(memory_path: Path) -> None:
    points = range(1, NUM_POINTS) if LONG else RANDOM.sample(range(1, NUM_POINTS), 12)
    check(kill(memory_path, [[point] for point in points], "itself"))


@pytest.mark.slow
@pytest.mark.timeout(3600)  # of the long form
def test_process_killed_by_another_ends_as_one_left_alone(memory_path: Path) -> None:
    points = range(1, NUM_POINTS, 3) if LONG else RANDOM.sample(range(1, NUM_POINTS), 12)
    check(kill(memory_path, [[point] for point in points], "parent"))


@pytest.mark.slow
@pytest.mark.timeout(3600)  # of the long form
def test_process_killed_again_and_again_ends_as_one_left_alone(memory_path: Path) -> None:
    kills = [[RANDOM.randrange(1, 150) for _ in range(20)] for _ in range(50 if LONG else 2)]
    check(kill(memory_path, kills, "itself"))
