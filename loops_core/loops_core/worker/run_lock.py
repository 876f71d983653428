"""A lock on a run's directory: one process at a time applies its log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Self, final

from loops_core.errors import UnsupportedError, UsageError

_NAME: Final = "lock"


@final
class RunLock:
    """A held lock; the operating system lets go of it when the process ends, however it ends."""

    def __init__(self, descriptor: int) -> None:
        """Wrap the locked file; use `acquire`."""
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, directory: Path) -> Self:
        """Return the lock of `directory`.

        Raises:
            UsageError: somebody holds it; the message names the process.
            UnsupportedError: this platform has no such locks.
        """
        try:
            import fcntl
        except ImportError as error:  # Windows
            raise UnsupportedError(
                "a log on disk needs POSIX file locks, which are missing here: use one in memory",
                field="directory",
            ) from error
        descriptor = os.open(directory / _NAME, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise UsageError(
                f"the run in {directory} is open in process {holder} already: one process at a "
                "time applies a log; close it there first, or open another run",
                field="directory",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Let go of the lock; may be called twice."""
        if self._descriptor is None:
            return
        import fcntl

        descriptor, self._descriptor = self._descriptor, None
        fcntl.flock(
            descriptor, fcntl.LOCK_UN
        )  # also where a forked child still holds the file open
        os.close(descriptor)
