"""Equal seed, equal trace: in other processes, with other hashes, and on other Python versions.

`LOOPS_OTHER_PYTHONS` names further interpreters that have the packages, separated by `:`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
OTHERS: Final = [path for path in os.environ.get("LOOPS_OTHER_PYTHONS", "").split(":") if path]

SCRIPT: Final = """
from tests.simulation.programs import train_under_trouble
from loops_mock.simulation.faults import MESSAGE_FAULTS, FaultPlan, Preempt, Restart
from loops_mock.simulation.world import World
kinds = (*MESSAGE_FAULTS, Restart, Preempt)
with World(3, FaultPlan.seeded(4, rate=0.3, kinds=kinds)) as world:
    train_under_trouble(world)
    print(world.trace.digest())
"""


def digest_of(python: str, hash_seed: str) -> str:
    """Return the digest of the trace that a fresh process sees."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    env = {
        **os.environ,
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }
    command = [python, "-c", SCRIPT]
    return subprocess.run(command, capture_output=True, check=True, text=True, env=env).stdout


@pytest.mark.slow
def test_the_order_of_hashes_changes_nothing() -> None:
    first = digest_of(sys.executable, "1")
    assert len(first.strip()) == 64
    assert digest_of(sys.executable, "2") == first


@pytest.mark.slow
@pytest.mark.skipif(not OTHERS, reason="no other interpreters: set LOOPS_OTHER_PYTHONS")
def test_other_python_versions_see_the_same_trace() -> None:
    expected = digest_of(sys.executable, "1")
    assert {python: digest_of(python, "0") for python in OTHERS} == dict.fromkeys(OTHERS, expected)
