"""Named checkpoints over a CheckpointStore: saved whole or not at all, read back by address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, final

from loops_core.clock import Clock
from loops_core.errors import NotFoundError, UsageError
from loops_core.protocols import CheckpointStore
from loops_core.types.checkpoint import (
    Checkpoint,
    CheckpointAddress,
    CheckpointFile,
    CheckpointFilesResponse,
    CheckpointTarget,
    LoraAdapterConfig,
    is_checkpoint_name,
)
from loops_core.worker.records import LOCAL_OWNER, CheckpointRecord, Records, make_id

RETENTION_S: Final = 24 * 3600.0
"""How long the files of a replaced checkpoint are kept, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCheckpoint:
    """What is to be saved.

    Attributes:
        address: run, target and name.
        owner: who may know of it.
        base_model: the frozen model's name.
        rank: the adapter's rank.
        version: the policy version that it is published as, for samplers.
        live: whether the paired sampler swaps to it.
        ttl_seconds: it may be deleted that long after now; None = kept.
    """

    address: CheckpointAddress
    owner: str = LOCAL_OWNER
    base_model: str
    rank: int
    version: int | None = None
    live: bool = False
    ttl_seconds: int | None = None


@final
class Checkpoints:
    """Saves, finds and lists checkpoints.

    A save fills a staged folder, commits it under a fresh key, and only then lets the name mean it:
    whoever reads a name sees a complete checkpoint, the earlier or the new one.
    """

    def __init__(self, store: CheckpointStore, records: Records, clock: Clock) -> None:
        """Use the store for files and the records for names."""
        self._store = store
        self._records = records
        self._clock = clock

    def save(self, new: NewCheckpoint, fill: Callable[[Path], None]) -> CheckpointRecord:
        """Save what `fill` writes into an empty directory; return its record.

        Raises:
            UsageError: the name is not one that a checkpoint may have.
        """
        check_name(new.address.name)
        checkpoint_id = make_id()
        key = f"{new.address.run_id}/{new.address.target.value}/{checkpoint_id}"
        staged = self._store.stage()
        try:
            fill(staged)
            size_bytes = self._store.commit(staged, key)
        except BaseException:
            self._store.discard(staged)
            raise
        now_s = self._clock.now()
        record = CheckpointRecord(
            id=checkpoint_id,
            owner=new.owner,
            run_id=new.address.run_id,
            target=new.address.target,
            name=new.address.name,
            key=key,
            base_model=new.base_model,
            rank=new.rank,
            version=new.version,
            live=new.live,
            size_bytes=size_bytes,
            created_s=now_s,
            expires_s=None if new.ttl_seconds is None else now_s + new.ttl_seconds,
        )
        self._records.add_checkpoint(record)
        self.remove_expired()
        return record

    def find(self, path: str, *, owner: str, as_of_s: float | None = None) -> CheckpointRecord:
        """Return the record of a `bt://` address, as its name is meant now or at `as_of_s`.

        Raises:
            UsageError: `path` is not a checkpoint address.
            NotFoundError: nothing of this owner's is saved there, or it has expired.
        """
        try:
            address = CheckpointAddress.parse(path)
        except ValueError as error:
            raise UsageError(str(error), field="path") from error
        record = self._records.named_checkpoint(
            address.run_id, address.target, address.name, owner=owner, as_of_s=as_of_s
        )
        expired = record is not None and _is_over(record, as_of_s or self._clock.now())
        if record is None or expired:
            raise NotFoundError(
                f"path {path!r}: no checkpoint is saved there"
                + (" any more, its ttl_seconds are over" if expired else ""),
                kind="checkpoint",
                name=path,
                field="path",
            )
        return record

    def open_local(self, record: CheckpointRecord) -> Path:
        """Return a local directory with the checkpoint's files, to be read only."""
        return self._store.open_local(record.key)

    def listing(
        self, *, owner: str, run_id: str | None = None, base_model: str | None = None
    ) -> list[Checkpoint]:
        """Return the owner's checkpoints of a run or a base model, newest first."""
        now_s = self._clock.now()
        rows = self._records.checkpoints(owner=owner, run_id=run_id, base_model=base_model)
        return [to_checkpoint(row) for row in rows if not _is_over(row, now_s)]

    def files(
        self, checkpoint_id: str, *, owner: str, page_size: int, page_token: int
    ) -> CheckpointFilesResponse:
        """Return one page of a checkpoint's files.

        Raises:
            NotFoundError: the owner has no checkpoint with this id.
            UsageError: `page_size` < 1 or `page_token` < 0.
        """
        if page_size < 1:
            raise UsageError(f"page_size must be >= 1, not {page_size}", field="page_size")
        if page_token < 0:
            raise UsageError(f"page_token must be >= 0, not {page_token}", field="page_token")
        record = self.record(checkpoint_id, owner=owner)
        files = self._store.files(record.key)
        end = page_token + page_size
        return CheckpointFilesResponse(
            presigned_urls=[
                CheckpointFile(
                    url=file.url,
                    relative_file_name=file.name,
                    size_bytes=file.size_bytes,
                    last_modified=datetime.fromtimestamp(file.modified_s, UTC),
                )
                for file in files[page_token:end]
            ],
            next_page_token=end if end < len(files) else None,
            total_count=len(files),
        )

    def record(self, checkpoint_id: str, *, owner: str) -> CheckpointRecord:
        """Return a checkpoint by its id.

        Raises:
            NotFoundError: the owner has no checkpoint with this id.
        """
        record = self._records.checkpoint(checkpoint_id, owner=owner)
        if record is None or _is_over(record, self._clock.now()):
            raise NotFoundError(
                f"checkpoint_id {checkpoint_id!r}: there is no such checkpoint; expected the `id` "
                "of a listed checkpoint",
                kind="checkpoint",
                name=checkpoint_id,
                field="checkpoint_id",
            )
        return record

    def remove_expired(self) -> None:
        """Delete what has expired and what was replaced longer than the retention ago.

        Weights that answer samples stay until newer ones do.
        """
        now_s = self._clock.now()
        for record in self._records.removable(now_s=now_s, retention_s=RETENTION_S):
            if record.live and record == self._records.live_checkpoint(record.run_id):
                continue
            self._records.remove_checkpoint(record.id)
            self._store.delete(record.key)


def check_name(name: str) -> None:
    """Raise `UsageError` unless a checkpoint may have this name."""
    if not is_checkpoint_name(name):
        raise UsageError(
            f"name {name!r} is not a checkpoint name: expected 1 to 128 letters, digits, '.', '_' "
            "or '-', not starting with a dot",
            field="name",
        )


def to_checkpoint(record: CheckpointRecord) -> Checkpoint:
    """Return a record as listings show it."""
    is_sampler = record.target is CheckpointTarget.SAMPLER
    return Checkpoint(
        id=record.id,
        run_id=record.run_id,
        checkpoint_id=record.name,
        checkpoint_type="lora" if is_sampler else "full",
        created_at=datetime.fromtimestamp(record.created_s, UTC),
        base_model=record.base_model,
        lora_adapter_config=LoraAdapterConfig(rank=record.rank),
        size_bytes=record.size_bytes,
        target=record.target,
    )


def _is_over(record: CheckpointRecord, now_s: float) -> bool:
    return record.expires_s is not None and record.expires_s <= now_s
