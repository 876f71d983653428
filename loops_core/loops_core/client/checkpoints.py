"""Listing checkpoints, finding one by id or name, and copying its files."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final, Protocol, Self, final

from loops_core.client import calls
from loops_core.client.arguments import check_int, check_text, shown
from loops_core.client.drivers import Driver, Flow, compute
from loops_core.errors import (
    CheckpointError,
    LoopsError,
    NotFoundError,
    UnsupportedError,
    UsageError,
)
from loops_core.types.checkpoint import (
    Checkpoint,
    CheckpointDownload,
    CheckpointFile,
    CheckpointFilesResponse,
    CheckpointTarget,
)

_BUDGET_S: Final = 60.0
_PAGE: Final = 1000
_AT_ONCE: Final = 4
"""Files fetched at a time: more would only share one connection's width."""


class Fetch(Protocol):
    """How one file is fetched: `Transport.download`."""

    def __call__(self, url: str, target: Path, *, size_bytes: int) -> None:
        """Write what the link leads to into the target."""
        ...


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which checkpoint is meant.

    Attributes:
        text: its id, or its name.
        is_name: whether only the name is meant.
        run_id: the run that saved it, where known.
        target: whom it is for, where said.
    """

    text: str
    is_name: bool
    run_id: str | None
    target: CheckpointTarget | None

    @classmethod
    def of(
        cls,
        checkpoint_id: str | None,
        name: str | None,
        *,
        run_id: str | None,
        target: CheckpointTarget | str | None,
    ) -> Self:
        """Return what the caller's arguments mean.

        Raises:
            UsageError: not exactly one of id and name, a name without a run, or an unknown target.
        """
        if (checkpoint_id is None) == (name is None):
            raise UsageError(
                "exactly one of checkpoint_id and name is needed; given: "
                f"checkpoint_id={shown(checkpoint_id)}, name={shown(name)}",
                field="checkpoint_id",
            )
        if name is not None and run_id is None:
            raise UsageError(f"name {name!r} needs run_id: names belong to a run", field="run_id")
        known = [each.value for each in CheckpointTarget]
        if target is not None and target not in known:
            raise UsageError(
                f"target must be one of {', '.join(known)}, not {shown(target)}", field="target"
            )
        given = name if checkpoint_id is None else checkpoint_id
        return cls(
            text=check_text("checkpoint_id" if name is None else "name", given),
            is_name=name is not None,
            run_id=run_id,
            target=None if target is None else CheckpointTarget(target),
        )


def listed(driver: Driver, run_id: str | None) -> Flow[list[Checkpoint]]:
    """Return a run's checkpoints, newest first."""
    if run_id is None:
        raise UnsupportedError("this client has no run whose checkpoints could be listed")
    listing = yield from driver.persist(calls.list_checkpoints(run_id), budget_s=_BUDGET_S)
    return listing.checkpoints


def page_of_files(
    driver: Driver, wanted: Wanted, *, page_size: int = _PAGE, page_token: int = 0
) -> Flow[CheckpointFilesResponse]:
    """Return one page of the checkpoint's files."""
    check_int("page_size", page_size, minimum=1)
    check_int("page_token", page_token, minimum=0)
    found = yield from _resolve(driver, wanted)
    call = calls.get_checkpoint_files(found, page_size=page_size, page_token=page_token)
    return (yield from driver.persist(call, budget_s=_BUDGET_S))


def _resolve(driver: Driver, wanted: Wanted) -> Flow[str]:
    """Return the checkpoint's id."""
    if wanted.run_id is None:
        return wanted.text
    everything = yield from listed(driver, wanted.run_id)
    if not wanted.is_name and any(each.id == wanted.text for each in everything):
        return wanted.text
    found = [
        each
        for each in everything
        if each.checkpoint_id == wanted.text and wanted.target in (None, each.target)
    ]
    targets = {each.target for each in found}
    if not found:
        raise NotFoundError(
            f"run {wanted.run_id} has no checkpoint {wanted.text!r}",
            kind="checkpoint",
            name=wanted.text,
        )
    if len(targets) > 1:
        raise UsageError(
            f"two checkpoints of run {wanted.run_id} are called {wanted.text!r}: pass "
            "target='trainer' or target='sampler'",
            field="target",
        )
    return max(found, key=lambda each: each.created_at).id


def download(driver: Driver, wanted: Wanted, dest_dir: Path) -> Flow[CheckpointDownload]:
    """Copy all files of the checkpoint into the directory."""
    if dest_dir.exists() and (not dest_dir.is_dir() or any(dest_dir.iterdir())):
        raise UsageError(
            f"dest_dir {str(dest_dir)!r} must be a new or an empty directory", field="dest_dir"
        )
    found = yield from _resolve(driver, wanted)
    files: list[CheckpointFile] = []
    token: int | None = 0
    while token is not None:
        call = calls.get_checkpoint_files(found, page_size=_PAGE, page_token=token)
        page = yield from driver.persist(call, budget_s=_BUDGET_S)
        files += page.presigned_urls
        token = page.next_page_token if page.presigned_urls else None
    fetch = driver.transport.download
    return (yield from compute(partial(fetch_files, files, dest_dir, fetch)))


def fetch_files(files: list[CheckpointFile], dest_dir: Path, fetch: Fetch) -> CheckpointDownload:
    """Fetch files into the directory, a few at a time: all of them, or none.

    Raises:
        CheckpointError: a name would lead out of the directory, two files have one name, or a file
            cannot be read or does not have the size that was told.
        LoopsError: whatever else `fetch` raised for the first file that failed; it is named.
    """
    targets = [_inside(dest_dir, file.relative_file_name) for file in files]
    if len(set(targets)) != len(targets):
        raise CheckpointError("two files of the checkpoint have the same name")
    with ExitStack() as undo, ThreadPoolExecutor(_AT_ONCE) as pool:
        made = {folder: None for target in targets for folder in _missing_folders(target.parent)}
        for folder in sorted(made, key=lambda path: len(path.parts)):
            folder.mkdir(exist_ok=True)
            undo.callback(_remove_empty, folder)
        for target in targets:
            undo.callback(target.unlink, missing_ok=True)
        fetching = [
            pool.submit(_fetch, file, target, fetch)
            for file, target in zip(files, targets, strict=True)
        ]
        try:
            for one in fetching:
                one.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        undo.pop_all()
    dest_dir.mkdir(parents=True, exist_ok=True)
    return CheckpointDownload(
        dest_dir=dest_dir,
        file_count=len(files),
        bytes_written=sum(file.size_bytes for file in files),
    )


def _inside(dest_dir: Path, name: str) -> Path:
    path = PurePosixPath(name)
    plain = bool(path.parts) and not path.is_absolute() and ".." not in path.parts
    if not plain or "\\" in name or ":" in name or "\0" in name:
        raise CheckpointError(f"the file name {name!r} leads out of the checkpoint's directory")
    return dest_dir.joinpath(*path.parts)


def _missing_folders(folder: Path) -> list[Path]:
    return [each for each in (folder, *folder.parents) if not each.exists()]


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # somebody else put something there
        folder.rmdir()


def _fetch(file: CheckpointFile, target: Path, fetch: Fetch) -> None:
    partial_file = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        fetch(file.url, partial_file, size_bytes=file.size_bytes)
        partial_file.replace(target)
    except LoopsError as error:
        named = error.copy()
        named.message = f"{file.relative_file_name!r}: {error.message}"
        raise named from error
    except OSError as error:
        raise CheckpointError(f"{file.relative_file_name!r} cannot be written: {error}") from error
    finally:
        partial_file.unlink(missing_ok=True)
