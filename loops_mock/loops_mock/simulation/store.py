"""A world's checkpoint store: folders of the machine, on a disk that can be full."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import final

from loops_core.errors import NotFoundError
from loops_core.protocols import StoredFile
from loops_mock.simulation.clock import WorldClock


@final
class WorldStore:
    """A `CheckpointStore` in a folder that ends with the world: nothing is forced to the disk."""

    def __init__(self, root: Path, clock: WorldClock) -> None:
        """Keep each key as a folder below `root`."""
        self._root = root
        self._staging = root / ".staging"
        self._staging.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._num_staged = 0
        self._full_until_s = 0.0

    def fill_up(self, *, seconds: float) -> None:
        """Let the disk be full for a while."""
        self._full_until_s = self._clock.monotonic() + seconds

    def stage(self) -> Path:
        """Return a new empty directory.

        Raises:
            OSError: (ENOSPC) the disk is full.
        """
        self._check_room()
        self._num_staged += 1
        staged = self._staging / str(self._num_staged)
        shutil.rmtree(staged, ignore_errors=True)  # of a store before this one
        staged.mkdir()
        return staged

    def commit(self, staged: Path, key: str) -> int:
        """Rename a staged directory to `key`; return its size in bytes; raises as `stage` does."""
        self._check_room()
        target = self._root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        staged.rename(target)
        return sum(file.size_bytes for file in self.files(key))

    def discard(self, staged: Path) -> None:
        """Remove a staged directory."""
        shutil.rmtree(staged, ignore_errors=True)

    def open_local(self, key: str) -> Path:
        """Return the folder under `key`."""
        folder = self._root / key
        if not folder.is_dir():
            raise NotFoundError(f"no files are kept under {key!r}", kind="checkpoint", name=key)
        return folder

    def files(self, key: str) -> list[StoredFile]:
        """Return the files under `key`, sorted by name."""
        folder = self.open_local(key)
        return [
            StoredFile(
                name=path.relative_to(folder).as_posix(),
                url=path.as_uri(),
                size_bytes=path.stat().st_size,
                modified_s=self._clock.now(),
            )
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]

    def delete(self, key: str) -> None:
        """Remove everything under `key`."""
        shutil.rmtree(self._root / key, ignore_errors=True)

    def _check_room(self) -> None:
        if self._clock.monotonic() < self._full_until_s:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._root))
