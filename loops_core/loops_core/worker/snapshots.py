"""Snapshots of a machine's state on disk, each complete or not there at all."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Final, Protocol, final

from loops_core.errors import CheckpointError, LoopsError
from loops_core.worker import disk
from loops_core.worker.lifecycle import READ_ONLY, READ_OUTSIDE
from loops_core.worker.log_durable import DurableLog
from loops_core.worker.queue_settings import QueueSettings

_log = logging.getLogger(__name__)

_KEPT: Final = 2  # the newest, and the one to fall back to when that is damaged
_STAGING: Final = ".staging"
_STATE: Final = "state"
_MANIFEST: Final = "manifest.json"


class Saved(Protocol):
    """What has a state to be saved and loaded."""

    def save(self, path: Path) -> None:
        """Write the whole state into an empty directory."""
        ...

    def load(self, path: Path) -> None:
        """Read what `save` wrote; one that raises has changed nothing."""
        ...


@final
class Pending:
    """What has changed the state since the last snapshot."""

    def __init__(self, settings: QueueSettings) -> None:
        """Start with nothing."""
        self._settings = settings
        self.sequence = 0
        self.clear()

    def add(self, kind: str, num_bytes: int, sequence: int) -> None:
        """Count an entry that is done, with the bytes of its body and its result."""
        if kind in READ_ONLY:
            return
        self.sequence = sequence
        self._num_entries += 1
        self._num_bytes += num_bytes
        self._is_urgent |= kind in READ_OUTSIDE

    @property
    def is_any(self) -> bool:
        """Return whether anything has changed."""
        return self._num_entries > 0

    @property
    def is_due(self) -> bool:
        """Return whether it is time for a snapshot."""
        return (
            self._is_urgent
            or self._num_entries >= self._settings.snapshot_entries
            or self._num_bytes >= self._settings.snapshot_bytes
        )

    def clear(self) -> None:
        """Start anew, behind a snapshot."""
        self._num_entries = 0
        self._num_bytes = 0
        self._is_urgent = False


@final
class Snapshots:
    """The snapshots of one run, in folders named after the log entry that they stand behind.

    A snapshot is written beside its place, with the size and SHA-256 of every file; then it is
    flushed to the disk, renamed, and recorded in the log. Only a recorded one counts.

    Attributes:
        log: the run's log, whose entries are replayed behind a snapshot.
    """

    def __init__(self, directory: Path, log: DurableLog) -> None:
        """Keep snapshots below `directory`, made if missing."""
        self._directory = directory
        self.log = log
        disk.make_folder(directory)

    def take(self, machine: Saved, sequence: int) -> None:
        """Keep the machine's state as the one behind entry `sequence`.

        Whatever this raises, the snapshots from before are as they were.
        """
        staging = self._directory / _STAGING
        disk.remove(staging)
        state = staging / _STATE
        state.mkdir(parents=True)
        machine.save(state)
        files = _digests(state)
        manifest = {"sequence": sequence, "files": files}
        (staging / _MANIFEST).write_text(json.dumps(manifest, indent=1))
        disk.flush_tree(staging)
        target = self._folder(sequence)
        disk.remove(target)
        staging.rename(target)
        disk.flush(self._directory)
        num_bytes = sum(size for size, _ in files.values())
        for dropped in self.log.add_snapshot(sequence, num_bytes, kept=_KEPT):
            disk.remove(self._folder(dropped))

    def restore(self, machine: Saved) -> int:
        """Load the newest good snapshot and return its sequence; 0 = there is none.

        A damaged one is passed over with a warning, and forgotten once an older one was loaded.
        """
        recorded = self.log.snapshots()
        for found in self._directory.iterdir():
            if found.name not in {self._folder(sequence).name for sequence in recorded}:
                disk.remove(found)  # what a crash left behind
        damaged: list[int] = []
        loaded = 0
        for sequence in recorded:
            try:
                _check(self._folder(sequence), sequence)
                machine.load(self._folder(sequence) / _STATE)
            except (LoopsError, OSError, ValueError) as error:
                _log.warning("snapshot %d is passed over: %s", sequence, error)
                damaged.append(sequence)
            else:
                loaded = sequence
                break
        self.log.check_replayable(loaded)
        for sequence in damaged:
            self.log.forget_snapshot(sequence)
            disk.remove(self._folder(sequence))
        return loaded

    def _folder(self, sequence: int) -> Path:
        return self._directory / f"{sequence:012d}"


def _check(folder: Path, sequence: int) -> None:
    """Raise `CheckpointError` unless the folder holds exactly what its manifest says."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        expected = {name: (size, digest) for name, (size, digest) in manifest["files"].items()}
        is_this = manifest["sequence"] == sequence
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / _MANIFEST} cannot be read: {error!r}") from error
    found = _digests(folder / _STATE)
    wrong = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    if wrong or not is_this:
        raise CheckpointError(f"{folder} differs from its manifest in {wrong or 'its sequence'}")


def _digests(folder: Path) -> dict[str, tuple[int, str]]:
    """Return size and SHA-256 of every file, by its path below the folder."""
    digests: dict[str, tuple[int, str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests[path.relative_to(folder).as_posix()] = (path.stat().st_size, digest)
    return digests
