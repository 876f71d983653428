"""Folders and files that are on the disk when a function has returned, not a little later."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make the folder and its missing parents, so that a loss of power leaves them in place."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        flush(path.parent)


def flush_tree(folder: Path) -> None:
    """Let every file and folder below, and the folder itself, reach the disk."""
    for path in folder.rglob("*"):
        flush(path)
    flush(folder)


def flush(path: Path) -> None:
    """Let a file's bytes, or a folder's entries, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file or a folder with everything in it; a missing one is no error."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
