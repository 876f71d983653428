"""The files of a saved checkpoint, copied to where the user finds them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.request import url2pathname, urlopen

from loops_core.errors import CheckpointError, NotFoundError
from loops_core.types.checkpoint import (
    Checkpoint,
    CheckpointAddress,
    CheckpointFile,
    CheckpointFilesResponse,
)


class Archive(Protocol):
    """What is used of a TrainingClient."""

    def list_checkpoints(self) -> Sequence[Checkpoint]:
        """Return the checkpoints of the client's run, the newest first."""
        ...

    def get_checkpoint_archive_url(
        self, checkpoint_id: str, page_size: int = 1000, page_token: int = 0
    ) -> CheckpointFilesResponse:
        """Return a page of links to a checkpoint's files."""
        ...


def copy_checkpoint(archive: Archive, path: str, directory: Path) -> list[Path]:
    """Return copies in `directory` of the files of the checkpoint at a `bt://` address.

    In process a file's link is a `file:` URL; from elsewhere it is fetched.

    Raises:
        NotFoundError: the run has no such checkpoint.
        CheckpointError: a file's name leads out of the directory.
    """
    copies: list[Path] = []
    for file in _files(archive, _find(archive, path).id):
        copy = directory / _checked(file.relative_file_name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        _fetch(file.url, copy)
        copies.append(copy)
    return copies


def digest_files(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in `directory`, by its name below it."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def _find(archive: Archive, path: str) -> Checkpoint:
    address = CheckpointAddress.parse(path)
    for checkpoint in archive.list_checkpoints():
        if (checkpoint.checkpoint_id, checkpoint.target) == (address.name, address.target):
            return checkpoint
    raise NotFoundError(f"{path} is not among the run's checkpoints", kind="checkpoint", name=path)


def _files(archive: Archive, checkpoint_id: str) -> Iterator[CheckpointFile]:
    page_token: int | None = 0
    while page_token is not None:
        page = archive.get_checkpoint_archive_url(checkpoint_id, page_token=page_token)
        yield from page.presigned_urls
        page_token = page.next_page_token


def _checked(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise CheckpointError(f"a checkpoint file is called {name!r}; expected a relative name")
    return path


def _fetch(url: str, copy: Path) -> None:
    scheme, _, rest = url.partition("://")
    if scheme == "file":
        shutil.copyfile(url2pathname(rest), copy)
        return
    with urlopen(url) as source, copy.open("wb") as target:
        shutil.copyfileobj(source, target)
