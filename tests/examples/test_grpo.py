"""The example project of `docs/test-your-loop.md` passes, and its tests find what is planted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

import pytest

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = ROOT / "docs" / "examples" / "grpo"
PAGE: Final = (ROOT / "docs" / "test-your-loop.md").read_text(encoding="utf-8")
BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


class Planted(NamedTuple):
    """A mistake of the page: what is changed in the loop, and what the tests print."""

    change: str
    told: list[str]


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCK.findall(PAGE) if found == kind]


PLANTED: Final = [
    Planted(change, told.splitlines())
    for change, told in zip(blocks("diff"), blocks("text"), strict=True)
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    copy = tmp_path / "grpo"
    shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def run_tests(project: Path, *more: str) -> tuple[int, str]:
    options = ["-q", "-pno:cacheprovider", "-ploops_mock.pytest_plugin", "--strict-markers", *more]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=project,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def planted_in(loop: str, change: str) -> str:
    """Return the loop with the lines that begin with + in place of those that begin with -."""
    old = "".join(line[1:] for line in change.splitlines(keepends=True) if line[0] == "-")
    new = "".join(line[1:] for line in change.splitlines(keepends=True) if line[0] == "+")
    assert loop.count(old) == 1
    return loop.replace(old, new)


def test_the_project_passes_its_tests(project: Path) -> None:
    code, told = run_tests(project)
    assert code == 0, told
    assert "6 passed" in told


@pytest.mark.parametrize("planted", PLANTED, ids=["late", "targets", "stale"])
def test_a_planted_mistake_is_found_as_the_page_says(project: Path, planted: Planted) -> None:
    loop = project / "grpo.py"
    loop.write_text(planted_in(loop.read_text(encoding="utf-8"), planted.change), encoding="utf-8")
    code, told = run_tests(project, "-k", "twice or jax")
    assert code == 1, told
    missing = [line for line in planted.told if line not in told]
    assert not missing, told


def test_the_reward_alone_does_not_tell_of_wrong_targets(project: Path) -> None:
    loop = project / "grpo.py"
    planted = next(each for each in PLANTED if "target_tokens" in each.change)
    loop.write_text(planted_in(loop.read_text(encoding="utf-8"), planted.change), encoding="utf-8")
    code, told = run_tests(project, "-k", "rises", "-o", "loops_strict=false")
    assert code == 0, told


def test_the_code_on_the_page_is_that_of_the_project() -> None:
    files = "\n".join(
        path.read_text(encoding="utf-8")
        for path in (*PROJECT.rglob("*.py"), PROJECT / "pyproject.toml")
    )
    shown = [*blocks("py"), *blocks("toml")]
    assert len(shown) >= 8
    assert not [block for block in shown if block not in files]


def test_the_cassette_was_recorded_on_jax() -> None:
    raw = (PROJECT / "tests" / "cassettes" / "loops-tiny.loops").read_bytes()
    assert b'{"service":"inproc:jax' in raw
