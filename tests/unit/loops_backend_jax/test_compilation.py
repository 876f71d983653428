"""Compiled programs on disk: written once, found again, where the user said if they said so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # JAX is set up once a process, so each case has one of its own

SCRIPT = """
import sys
from pathlib import Path
import jax
from loops_backend_jax import compilation

compilation.SHORTEST_KEPT_S = 0.0
jax.jit(lambda x: x + 1)(1.0)  # a program from before does not keep others from being kept
compilation.keep_compiled_programs(Path(sys.argv[1]))
jax.jit(lambda x: x * 2 + 3)(1.0)
"""


def run(directory: Path, **environment: str) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION")}
    command = [sys.executable, "-c", SCRIPT, str(directory)]
    subprocess.run(command, check=True, env=kept | {"JAX_PLATFORMS": "cpu"} | environment)


def test_programs_are_kept_once_for_all_processes(tmp_path: Path) -> None:
    run(tmp_path)
    first = {path.name for path in tmp_path.glob("*-cache")}
    assert first
    run(tmp_path)
    assert {path.name for path in tmp_path.glob("*-cache")} == first


def test_a_directory_that_the_user_named_stays(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    run(ours, JAX_COMPILATION_CACHE_DIR=str(theirs), JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    assert not ours.exists()
    assert list(theirs.glob("*-cache"))
