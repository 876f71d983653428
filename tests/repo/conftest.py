"""What the tests of the repository itself share: where it is, and which files belong to it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

MEMBERS = ("loops_core", "loops_transport_http", "loops_backend_jax", "loops_mock")


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def tracked_files(root: Path) -> list[Path]:
    """Return the files that git keeps, and those it would keep when added."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(listing, cwd=root, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: what belongs to the repository is not known")
    paths = [root / name for name in names.split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.fixture(scope="session")
def source_files(root: Path) -> list[Path]:
    return [path for member in MEMBERS for path in sorted((root / member / member).rglob("*.py"))]
