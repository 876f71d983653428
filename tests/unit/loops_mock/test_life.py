"""Same calls and seed, same bytes: on every processor, NumPy and Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.loops_mock import life

# Computed once; every platform must arrive at it.
DIGEST = "339963794dabe88d82c42556e5dc64619930661401d05edc0b0529eff15f1a25"

OTHER_PYTHONS = os.environ.get("LOOPS_OTHER_PYTHONS", "").split(os.pathsep)
"""More interpreters that have loops_core and loops_mock, to be tried as well."""


def run_life(python: str, **variables: str) -> str:
    command = [python, str(Path(life.__file__))]
    environment = {**os.environ, **variables}
    found = subprocess.run(command, capture_output=True, check=True, text=True, env=environment)
    return found.stdout.strip()


def test_the_bytes_of_a_life_with_every_loss_are_pinned() -> None:
    assert life.live() == DIGEST


@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["Prescott", "Nehalem", "Haswell"])
def test_another_way_to_multiply_matrices_gives_the_same_bytes(kernels: str) -> None:
    """OpenBLAS has kernels for many processors: they add in other orders, some with FMA."""
    assert run_life(sys.executable, OPENBLAS_CORETYPE=kernels) == DIGEST


@pytest.mark.slow
@pytest.mark.parametrize("python", OTHER_PYTHONS)
def test_another_python_gives_the_same_bytes(python: str) -> None:
    if not python:
        pytest.skip("LOOPS_OTHER_PYTHONS names no interpreters")
    assert run_life(python) == DIGEST
