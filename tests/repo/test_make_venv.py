"""The script behind the make targets finds an interpreter that runs, or says what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the script is for a POSIX shell")

# A stand-in answers the two questions that the script asks: does this version fit, and make a venv.
FITS = """#!/bin/sh
case "$1" in
    -c) exit 0 ;;
    -m) mkdir -p "$4/bin" && echo "$0" > "$4/made-by" ;;
esac
"""
TOO_OLD = """#!/bin/sh
case "$1" in
    --version) echo "Python 3.9.2" ;;
    *) exit 1 ;;
esac
"""
BROKEN_SHIM = "#!/bin/sh\necho 'command not found' >&2\nexit 127\n"


def run(
    root: Path, tmp_path: Path, pythons: dict[str, str], wanted: str | None = None
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Run the script with only the given interpreters, and the shell's tools, on the path."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    for tool in ("sh", "mkdir"):
        found = shutil.which(tool)
        assert found is not None
        (bin_dir / tool).symlink_to(found)
    for name, text in pythons.items():
        (bin_dir / name).write_text(text)
        (bin_dir / name).chmod(0o755)
    made = tmp_path / "venv"
    command = ["sh", str(root / "tools" / "make_venv.sh"), str(made), *([wanted] if wanted else [])]
    done = subprocess.run(
        command, env={"PATH": str(bin_dir)}, capture_output=True, text=True, check=False
    )
    return done, made / "made-by"


def test_python3_is_taken_when_it_fits(root: Path, tmp_path: Path) -> None:
    done, made_by = run(root, tmp_path, {"python3": FITS, "python3.13": FITS})
    assert done.returncode == 0, done.stderr
    assert made_by.read_text().strip().endswith("/python3")


def test_an_old_python3_is_passed_over_for_a_newer_one(root: Path, tmp_path: Path) -> None:
    done, made_by = run(root, tmp_path, {"python3": TOO_OLD, "python3.12": FITS})
    assert done.returncode == 0, done.stderr
    assert made_by.read_text().strip().endswith("/python3.12")


def test_a_shim_that_does_not_run_is_passed_over(root: Path, tmp_path: Path) -> None:
    pythons = {"python3": TOO_OLD, "python3.13": BROKEN_SHIM, "python3.11": FITS}
    done, made_by = run(root, tmp_path, pythons)
    assert done.returncode == 0, done.stderr
    assert made_by.read_text().strip().endswith("/python3.11")


def test_without_a_fitting_python_the_message_says_what_to_do(root: Path, tmp_path: Path) -> None:
    done, made_by = run(root, tmp_path, {"python3": TOO_OLD})
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed; python3 here is: Python 3.9.2" in done.stderr
    assert "make PYTHON=" in done.stderr
    assert not made_by.exists()


def test_a_named_python_that_does_not_fit_is_refused(root: Path, tmp_path: Path) -> None:
    pythons = {"python3": FITS, "mine": TOO_OLD}
    done, made_by = run(root, tmp_path, pythons, wanted="mine")
    assert done.returncode == 1
    assert "PYTHON=mine" in done.stderr
    assert not made_by.exists()


def test_a_named_python_that_fits_is_taken(root: Path, tmp_path: Path) -> None:
    done, made_by = run(root, tmp_path, {"python3": FITS, "mine": FITS}, wanted="mine")
    assert done.returncode == 0, done.stderr
    assert made_by.read_text().strip().endswith("/mine")


def test_every_make_target_is_in_the_help(root: Path) -> None:
    text = (root / "Makefile").read_text(encoding="utf-8")
    phony = next(line for line in text.splitlines() if line.startswith(".PHONY:")).split()[1:]
    shown = subprocess.run(
        ["make", "help"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    missing = [name for name in phony if name != "help" and f"  {name} " not in shown]
    assert not missing
