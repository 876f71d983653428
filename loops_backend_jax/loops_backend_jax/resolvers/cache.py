"""Directories that are made once and kept: complete or absent, also with two processes at work."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

CACHE_VARIABLE: Final = "LOOPS_CACHE_DIR"
_ABANDONED_AFTER_S: Final = 24 * 3600.0


def make_cache_root() -> Path:
    """Return the directory under which made models are kept; it need not exist yet.

    `LOOPS_CACHE_DIR` names it; without that it is `loops` in the platform's place for caches.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("loops", appauthor=False))


def make_once(target: Path, files: Iterable[str], write: Callable[[Path], None]) -> Path:
    """Return `target`, a directory that holds all of `files`; write it if it does not.

    The files are written beside the target and appear under its name in one step, so whoever finds
    the name finds all of it. Of several writers at once one wins and the others use its work.

    Args:
        target: where the directory is to be.
        files: names that a complete directory holds; one that lacks any is replaced.
        write: puts the files into the empty directory it is given.
    """
    wanted = tuple(files)
    if _is_complete(target, wanted):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target)
    with tempfile.TemporaryDirectory(prefix=_prefix(target), dir=target.parent) as room:
        made = Path(room) / target.name
        made.mkdir()
        write(made)
        missing = [name for name in wanted if not (made / name).is_file()]
        if missing:
            raise RuntimeError(f"{target.name}: the writer left out {', '.join(missing)}")
        _flush(made)
        _put(made, target, wanted, aside=Path(room) / "replaced")
    return target


def _put(made: Path, target: Path, wanted: tuple[str, ...], *, aside: Path) -> None:
    """Rename `made` to `target`, unless another writer's complete work is there already."""
    while not _is_complete(target, wanted):
        try:
            made.rename(target)
        except OSError:
            if not target.exists():
                raise
            if not _is_complete(target, wanted):
                target.rename(aside)


def _is_complete(target: Path, wanted: tuple[str, ...]) -> bool:
    return all((target / name).is_file() for name in wanted)


def _flush(directory: Path) -> None:
    """Have the files on the disk before their name is: a power cut leaves none half-written."""
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_abandoned(target: Path) -> None:
    """Remove what writers of this target left that were killed over a day ago."""
    for room in target.parent.glob(_prefix(target) + "*"):
        try:
            age_s = time.time() - room.stat().st_mtime
        except FileNotFoundError:  # its writer has just finished
            continue
        if age_s > _ABANDONED_AFTER_S:
            shutil.rmtree(room, ignore_errors=True)


def _prefix(target: Path) -> str:
    return f".making-{target.name}-"
