"""No tracked file speaks of the machine it was written on, or of the host of a package index."""

from __future__ import annotations

import re
from pathlib import Path

# Spelled in parts, so that this file is none of those it looks for.
HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("download", "pytorch", "org"),
        ("anaconda", "org"),
    )
)
HOME = re.compile(r"/(?:root|home/[\w.-]+|Users/[\w.-]+)/")


def texts(paths: list[Path]) -> dict[Path, str]:
    found: dict[Path, str] = {}
    for path in paths:
        data = path.read_bytes()
        if b"\0" not in data[:4096]:
            found[path] = data.decode("utf-8", errors="replace")
    return found


def test_no_tracked_file_holds_a_path_of_a_machine(tracked_files: list[Path], root: Path) -> None:
    checkout = f"{root.resolve()}/"
    named = [
        str(path.relative_to(root))
        for path, text in texts(tracked_files).items()
        if checkout in text or HOME.search(text)
    ]
    assert not named


def test_no_tracked_file_names_the_host_of_a_package_index(
    tracked_files: list[Path], root: Path
) -> None:
    named = [
        f"{path.relative_to(root)}: {host}"
        for path, text in texts(tracked_files).items()
        for host in HOSTS
        if host in text
    ]
    assert not named
