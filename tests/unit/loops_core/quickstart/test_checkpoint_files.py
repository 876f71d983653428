"""Files of a checkpoint arrive whole, in their folders, and never outside of the target."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import final

import pytest

from loops_core.errors import CheckpointError, NotFoundError
from loops_core.quickstart.checkpoint_files import copy_checkpoint, digest_files
from loops_core.types.checkpoint import (
    Checkpoint,
    CheckpointFile,
    CheckpointFilesResponse,
    CheckpointTarget,
    LoraAdapterConfig,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@final
class Shelf:
    """An archive with one checkpoint for each target, whose files lie in a folder; pages of one."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self._folder, self._names = folder, names

    def list_checkpoints(self) -> list[Checkpoint]:
        return [
            Checkpoint(
                id=f"{target.value}-id",
                run_id="r1",
                checkpoint_id="end",
                checkpoint_type="lora",
                created_at=NOW,
                base_model="m",
                lora_adapter_config=LoraAdapterConfig(rank=1),
                target=target,
            )
            for target in CheckpointTarget
        ]

    def get_checkpoint_archive_url(
        self, checkpoint_id: str, page_size: int = 1000, page_token: int = 0
    ) -> CheckpointFilesResponse:
        assert checkpoint_id == "trainer-id"
        name = self._names[page_token]
        file = CheckpointFile(
            url=(self._folder / name).as_uri() if ".." not in name else "file:///x",
            relative_file_name=name,
            size_bytes=1,
            last_modified=NOW,
        )
        following = page_token + 1 if page_token + 1 < len(self._names) else None
        return CheckpointFilesResponse(
            presigned_urls=[file], next_page_token=following, total_count=len(self._names)
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "a folder"
    (made / "deep").mkdir(parents=True)
    (made / "one").write_text("1")
    (made / "deep" / "two").write_text("2")
    return made


def test_all_pages_are_copied_under_their_names(folder: Path, tmp_path: Path) -> None:
    shelf = Shelf(folder, ["one", "deep/two"])
    copies = copy_checkpoint(shelf, "bt://loops:r1/weights/end", tmp_path / "out")
    assert [copy.read_text() for copy in copies] == ["1", "2"]
    assert digest_files(tmp_path / "out") == digest_files(folder)
    assert set(digest_files(folder)) == {"one", "deep/two"}


@pytest.mark.parametrize("name", ["../out", "/etc/x", "a/../../b", ""])
def test_a_name_that_leads_out_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a relative name"):
        copy_checkpoint(Shelf(folder, [name]), "bt://loops:r1/weights/end", tmp_path / "out")


def test_a_checkpoint_that_is_not_listed_is_not_found(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="weights/other"):
        copy_checkpoint(Shelf(folder, []), "bt://loops:r1/weights/other", tmp_path)
