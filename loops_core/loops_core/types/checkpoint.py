"""Checkpoints, their files, and the grammar of checkpoint addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from pydantic import AliasChoices, Field, NonNegativeInt

from loops_core.types.base import WireModel

CHECKPOINT_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
"""What a checkpoint may be called: 1 to 128 letters, digits, `.`, `_`, `-`, no dot first."""

_ADDRESS: Final = re.compile(r"bt://loops:(?P<run_id>[^/]+)/(?P<folder>[a-z_]+)/(?P<name>[^/]+)")


class CheckpointTarget(StrEnum):
    """Whom a checkpoint is for: `trainer` can be resumed, `sampler` can be sampled from."""

    SAMPLER = "sampler"
    TRAINER = "trainer"


_FOLDERS: Final = {
    CheckpointTarget.TRAINER: "weights",
    CheckpointTarget.SAMPLER: "sampler_weights",
}


@dataclass(frozen=True, slots=True)
class CheckpointAddress:
    """A checkpoint's `bt://loops:<run_id>/weights/<name>` or `.../sampler_weights/<name>`.

    >>> CheckpointAddress.parse("bt://loops:r1/weights/step-1").name
    'step-1'
    """

    run_id: str
    target: CheckpointTarget
    name: str

    @classmethod
    def parse(cls, path: str) -> Self:
        """Return the parts of an address.

        Raises:
            ValueError: the text is not a checkpoint address.
        """
        match = _ADDRESS.fullmatch(path)
        targets = {folder: target for target, folder in _FOLDERS.items()}
        if match is None or match["folder"] not in targets or not is_checkpoint_name(match["name"]):
            raise ValueError(
                f"path {path!r} is not a checkpoint address: expected "
                "bt://loops:<run_id>/weights/<name> or bt://loops:<run_id>/sampler_weights/<name>"
            )
        return cls(match["run_id"], targets[match["folder"]], match["name"])

    def __str__(self) -> str:
        """Return the address as text."""
        return f"bt://loops:{self.run_id}/{_FOLDERS[self.target]}/{self.name}"


def is_checkpoint_name(name: str) -> bool:
    """Tell whether a checkpoint may have this name.

    >>> is_checkpoint_name("../up"), is_checkpoint_name("step-1")
    (False, True)
    """
    return CHECKPOINT_NAME.fullmatch(name) is not None


class LoraAdapterConfig(WireModel):
    """The adapter's rank; `r` in JSON."""

    rank: int = Field(validation_alias=AliasChoices("r", "rank"), serialization_alias="r")


class Checkpoint(WireModel):
    """A saved checkpoint as listings show it; `checkpoint_id` is the name it was saved under."""

    id: str = ""
    run_id: str
    checkpoint_id: str
    checkpoint_type: str
    created_at: datetime
    base_model: str
    lora_adapter_config: LoraAdapterConfig
    size_bytes: NonNegativeInt = 0
    sync_status: str | None = None
    target: CheckpointTarget | None = None


class CheckpointFile(WireModel):
    """One file of a checkpoint and where it can be read for a while."""

    url: str
    relative_file_name: str
    node_rank: int = 0
    size_bytes: NonNegativeInt
    last_modified: datetime


class CheckpointFilesResponse(WireModel):
    """A page of a checkpoint's files."""

    presigned_urls: list[CheckpointFile]
    next_page_token: int | None = None
    total_count: int


class CheckpointDownload(WireModel):
    """What `download_checkpoint` wrote."""

    dest_dir: Path
    file_count: int
    bytes_written: int
