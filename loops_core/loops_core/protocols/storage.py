"""What a checkpoint store is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file of a stored checkpoint.

    Attributes:
        name: relative, with `/` between folders.
        url: where it can be read; `file:` for a local store.
        size_bytes: its size.
        modified_s: when it was written, in seconds since 1970 (UTC).
    """

    name: str
    url: str
    size_bytes: int
    modified_s: float


class CheckpointStore(Protocol):
    """Keeps checkpoint folders under keys such as `<run_id>/trainer/<id>`.

    A key is written once. Until `commit` returns nothing is visible under it; afterwards all of it
    is, also after a crash.
    """

    def stage(self) -> Path:
        """Return a new empty local directory to be filled and then committed or discarded."""
        ...

    def commit(self, staged: Path, key: str) -> int:
        """Keep a staged directory under `key`, durably and at once; return its size in bytes."""
        ...

    def discard(self, staged: Path) -> None:
        """Remove a staged directory that will not be committed."""
        ...

    def open_local(self, key: str) -> Path:
        """Return a local directory with the files under `key`, to be read only.

        Raises:
            NotFoundError: nothing is kept under the key.
        """
        ...

    def files(self, key: str) -> list[StoredFile]:
        """Return the files under `key`, sorted by name; raises as `open_local` does."""
        ...

    def delete(self, key: str) -> None:
        """Remove everything under `key`; a missing key is no error."""
        ...
