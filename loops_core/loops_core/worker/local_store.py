"""A checkpoint store in a local directory: staged, renamed into place, durable when visible."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Final, final

from loops_core.errors import NotFoundError
from loops_core.protocols import StoredFile

_LEFTOVER_S: Final = 24 * 3600.0


@final
class LocalStore:
    """Keeps each key as a folder below `root`; the staging area lies on the same file system."""

    def __init__(self, root: Path) -> None:
        """Open or make the store at `root`, an absolute path."""
        self._root = root
        self._staging = root / ".staging"
        self._staging.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()

    def stage(self) -> Path:
        """Return a new empty local directory to be filled and then committed or discarded."""
        staged = self._staging / uuid.uuid4().hex
        staged.mkdir()
        return staged

    def commit(self, staged: Path, key: str) -> int:
        """Flush the staged files, rename them to `key`, and return their size in bytes."""
        target = self._root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        for path in sorted(staged.rglob("*")):
            if path.is_file():
                _flush(path)
                size += path.stat().st_size
        for folder in (*(p for p in staged.rglob("*") if p.is_dir()), staged):
            _flush(folder)
        staged.rename(target)
        _flush(target.parent)
        return size

    def discard(self, staged: Path) -> None:
        """Remove a staged directory that will not be committed."""
        shutil.rmtree(staged, ignore_errors=True)

    def open_local(self, key: str) -> Path:
        """Return the folder under `key`, to be read only."""
        folder = self._root / key
        if not folder.is_dir():
            raise NotFoundError(f"no files are kept under {key!r}", kind="checkpoint", name=key)
        return folder

    def files(self, key: str) -> list[StoredFile]:
        """Return the files under `key`, sorted by name."""
        folder = self.open_local(key)
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        return [
            StoredFile(
                name=path.relative_to(folder).as_posix(),
                url=path.as_uri(),
                size_bytes=path.stat().st_size,
                modified_s=path.stat().st_mtime,
            )
            for path in found
        ]

    def delete(self, key: str) -> None:
        """Remove everything under `key`."""
        shutil.rmtree(self._root / key, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        """Remove what a process that died left in the staging area a day ago or earlier."""
        for staged in self._staging.iterdir():
            if time.time() - staged.stat().st_mtime > _LEFTOVER_S:
                shutil.rmtree(staged, ignore_errors=True)


def _flush(path: Path) -> None:
    """Force a file's bytes or a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
