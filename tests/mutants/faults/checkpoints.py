"""Faults of named checkpoints: names, times to live, listings, files."""

from __future__ import annotations

from typing import Final

from tests.mutants.editing import Edit
from tests.mutants.mutant import Mutant

_CHECKPOINTS: Final = "loops_core.worker.checkpoints:Checkpoints"
_RECORDS: Final = "loops_core.worker.records:Records"

CHECKPOINTS: Final = (
    Mutant(
        "save.first-one-kept",
        "saving under a name again keeps the old weights",
        "worker",
        (
            Edit(
                f"{_RECORDS}.named_checkpoint",
                "return self._owned(CheckpointRecord, owner, where)",
                "every = self._all(CheckpointRecord, "
                "sa.and_(CHECKPOINTS.c.owner == owner, where))\n"
                "return every[-1] if every else None",
            ),
        ),
    ),
    Mutant(
        "save.names-collide",
        "a sampler checkpoint takes the name of a trainer checkpoint",
        "worker",
        (
            Edit(
                f"{_RECORDS}.add_checkpoint",
                "sa.and_(CHECKPOINTS.c.run_id == row.run_id, CHECKPOINTS.c.target == row.target, "
                "CHECKPOINTS.c.name == row.name, CHECKPOINTS.c.replaced_s.is_(None))",
                "sa.and_(CHECKPOINTS.c.run_id == row.run_id, CHECKPOINTS.c.name == row.name, "
                "CHECKPOINTS.c.replaced_s.is_(None))",
            ),
        ),
    ),
    Mutant(
        "save.names-across-runs",
        "a checkpoint of one run is replaced by another run's of the same name",
        "worker",
        (
            Edit(
                f"{_RECORDS}.named_checkpoint",
                "sa.and_(CHECKPOINTS.c.run_id == run_id, CHECKPOINTS.c.target == target, "
                "CHECKPOINTS.c.name == name)",
                "sa.and_(CHECKPOINTS.c.target == target, CHECKPOINTS.c.name == name)",
            ),
        ),
    ),
    Mutant(
        "save.bad-names-accepted",
        "a checkpoint called ../x is accepted",
        "worker",
        (
            Edit(
                "loops_core.worker.validation:check_operation",
                "check_name(body.name)",
                "pass",
            ),
            Edit(f"{_CHECKPOINTS}.save", "check_name(new.address.name)", "pass"),
        ),
        only="http",
    ),
    Mutant(
        "ttl.ignored",
        "checkpoints with ttl_seconds are never gone, and are paid for",
        "worker",
        (
            Edit(
                f"{_CHECKPOINTS}.save",
                "None if new.ttl_seconds is None else now_s + new.ttl_seconds",
                "None",
            ),
        ),
    ),
    Mutant(
        "ttl.at-once",
        "a checkpoint with ttl_seconds=3600 cannot be found a moment later",
        "worker",
        (
            Edit(
                f"{_CHECKPOINTS}.save",
                "None if new.ttl_seconds is None else now_s + new.ttl_seconds",
                "None if new.ttl_seconds is None else now_s",
            ),
        ),
    ),
    Mutant(
        "ttl.none-means-soon",
        "checkpoints without ttl_seconds vanish",
        "worker",
        (
            Edit(
                f"{_CHECKPOINTS}.save",
                "None if new.ttl_seconds is None else now_s + new.ttl_seconds",
                "now_s + (new.ttl_seconds or 0.0)",
            ),
        ),
    ),
    Mutant(
        "listing.oldest-first",
        "the newest checkpoint of a listing is the oldest",
        "worker",
        (
            Edit(
                f"{_CHECKPOINTS}.listing",
                "return [to_checkpoint(row) for row in rows if not _is_over(row, now_s)]",
                "return [to_checkpoint(row) for row in rows if not _is_over(row, now_s)][::-1]",
            ),
        ),
    ),
    Mutant(
        "listing.replaced-shown",
        "a listing shows a name twice after it was saved again",
        "worker",
        (
            Edit(
                f"{_RECORDS}.checkpoints",
                "[CHECKPOINTS.c.owner == owner, CHECKPOINTS.c.replaced_s.is_(None)]",
                "[CHECKPOINTS.c.owner == owner]",
            ),
        ),
    ),
    Mutant(
        "listing.wrong-target",
        "a sampler checkpoint is listed as one that training can be resumed from",
        "worker",
        (
            Edit(
                "loops_core.worker.checkpoints:to_checkpoint",
                "record.target is CheckpointTarget.SAMPLER",
                "False",
            ),
            Edit(
                "loops_core.worker.checkpoints:to_checkpoint",
                "return Checkpoint(id=record.id, run_id=record.run_id, checkpoint_id=record.name, "
                "checkpoint_type='lora' if is_sampler else 'full', "
                "created_at=datetime.fromtimestamp(record.created_s, UTC), "
                "base_model=record.base_model, "
                "lora_adapter_config=LoraAdapterConfig(rank=record.rank), "
                "size_bytes=record.size_bytes, target=record.target)",
                "return Checkpoint(id=record.id, run_id=record.run_id, checkpoint_id=record.name, "
                "checkpoint_type='full', "
                "created_at=datetime.fromtimestamp(record.created_s, UTC), "
                "base_model=record.base_model, "
                "lora_adapter_config=LoraAdapterConfig(rank=record.rank), "
                "size_bytes=record.size_bytes, target=CheckpointTarget.TRAINER)",
            ),
        ),
    ),
    Mutant(
        "listing.rank-of-default",
        "a checkpoint's rank is listed as 32 whatever it is",
        "worker",
        (
            Edit(
                "loops_core.worker.checkpoints:to_checkpoint",
                "LoraAdapterConfig(rank=record.rank)",
                "LoraAdapterConfig(rank=32)",
            ),
        ),
    ),
    Mutant(
        "files.page-skips-one",
        "paging through a checkpoint's files misses one at each page",
        "worker",
        (
            Edit(
                f"{_CHECKPOINTS}.files",
                "end if end < len(files) else None",
                "end + 1 if end < len(files) else None",
            ),
        ),
    ),
    Mutant(
        "files.size-wrong",
        "downloads are refused: sizes are those of the disk's blocks",
        "worker",
        (
            Edit(
                f"{_CHECKPOINTS}.files",
                "file.size_bytes",
                "-(-file.size_bytes // 4096) * 4096",
            ),
        ),
    ),
)
"""The faults of named checkpoints."""
