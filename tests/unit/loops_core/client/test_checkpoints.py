"""Listing, finding and downloading checkpoints."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from tests.unit.loops_core.client.fakes import FakeService, make_client

from loops_core.client.checkpoints import fetch_files
from loops_core.client.training import TrainingClient
from loops_core.errors import CheckpointError, NotFoundError, UnsupportedError, UsageError
from loops_core.inprocess import copy_linked_file
from loops_core.types.base import WireModel
from loops_core.types.checkpoint import (
    Checkpoint,
    CheckpointFile,
    CheckpointFilesResponse,
    CheckpointTarget,
    LoraAdapterConfig,
)
from loops_core.types.deployment import CheckpointListing
from loops_core.types.routes import Call


def entry(
    ident: str, name: str, target: CheckpointTarget = CheckpointTarget.TRAINER, *, hour: int = 1
) -> Checkpoint:
    return Checkpoint(
        id=ident,
        run_id="r1",
        checkpoint_id=name,
        checkpoint_type="lora",
        created_at=datetime(2026, 1, 1, hour, tzinfo=UTC),
        base_model="tiny",
        lora_adapter_config=LoraAdapterConfig(rank=4),
        target=target,
    )


LISTING = [
    entry("id3", "both", CheckpointTarget.SAMPLER),
    entry("id2", "both"),
    entry("id1", "only"),
    entry("id0", "only", hour=0),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "stored"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "sub" / "weights").write_bytes(b"12345")
    return folder


def file_of(folder: Path, name: str, **changes: object) -> CheckpointFile:
    path = folder / name
    fields = {
        "url": path.as_uri(),
        "relative_file_name": name,
        "size_bytes": path.stat().st_size if path.exists() else 0,
        "last_modified": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return CheckpointFile.model_validate({**fields, **changes})


@pytest.fixture
def service(folder: Path) -> FakeService:
    service = FakeService()
    files = [file_of(folder, "config.json"), file_of(folder, "sub/weights")]

    def page(call: Call[WireModel]) -> CheckpointFilesResponse:
        start, size = (cast("int", call.query[name]) for name in ("page_token", "page_size"))
        end = min(start + min(size, 1), len(files))
        return CheckpointFilesResponse(
            presigned_urls=files[start:end],
            next_page_token=end if end < len(files) else None,
            total_count=len(files),
        )

    service.answers["list_checkpoints"] = lambda _: CheckpointListing(checkpoints=LISTING)
    service.answers["get_checkpoint_files"] = page
    return service


@pytest.fixture
def client(service: FakeService) -> TrainingClient:
    return make_client(service)


def asked_for(service: FakeService) -> str:
    return service.sent("get_checkpoint_files")[-1].path_args["checkpoint_id"]


def test_a_listing_is_of_the_client_s_run(service: FakeService, client: TrainingClient) -> None:
    assert client.list_checkpoints() == LISTING
    assert service.calls[0].query == {"run_id": "r1"}


@pytest.mark.parametrize(
    ("checkpoint_id", "name", "target", "found"),
    [
        ("id2", None, None, "id2"),
        ("only", None, None, "id1"),
        (None, "only", None, "id1"),
        (None, "both", "sampler", "id3"),
        ("both", None, CheckpointTarget.TRAINER, "id2"),
    ],
)
def test_a_checkpoint_is_found_by_id_or_name(
    service: FakeService,
    client: TrainingClient,
    checkpoint_id: str | None,
    name: str | None,
    target: str | None,
    found: str,
) -> None:
    client.get_checkpoint_archive_url(checkpoint_id, name=name, target=target)
    assert asked_for(service) == found


def test_pages_are_asked_for_in_the_order_of_the_reference(
    service: FakeService, client: TrainingClient
) -> None:
    page = client.get_checkpoint_archive_url("id2", 1, 1)
    assert [file.relative_file_name for file in page.presigned_urls] == ["sub/weights"]
    assert service.sent("get_checkpoint_files")[0].query == {"page_size": 1, "page_token": 1}


def test_a_name_of_two_checkpoints_needs_a_target(client: TrainingClient) -> None:
    with pytest.raises(UsageError, match="target='trainer'"):
        client.get_checkpoint_archive_url(name="both")


def test_a_name_that_is_no_id_is_not_looked_up_as_one(client: TrainingClient) -> None:
    with pytest.raises(NotFoundError, match="id2"):
        client.get_checkpoint_archive_url(name="id2")


def test_a_missing_checkpoint_is_named(client: TrainingClient) -> None:
    with pytest.raises(NotFoundError, match="nowhere") as caught:
        client.download_checkpoint("nowhere", dest_dir="unused")
    assert (caught.value.kind, caught.value.name) == ("checkpoint", "nowhere")


def test_a_download_holds_every_file_of_every_page(client: TrainingClient, tmp_path: Path) -> None:
    target = tmp_path / "new" / "copy"
    download = client.download_checkpoint("id2", dest_dir=str(target))
    assert (download.dest_dir, download.file_count, download.bytes_written) == (target, 2, 7)
    names = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert names == {"config.json", "sub/weights"}
    assert (target / "sub" / "weights").read_bytes() == b"12345"


def test_a_directory_with_files_is_left_alone(
    service: FakeService, client: TrainingClient, folder: Path
) -> None:
    with pytest.raises(UsageError, match="empty"):
        client.download_checkpoint("id2", dest_dir=folder)
    assert service.calls == []


@pytest.mark.parametrize(
    "name",
    ["../up", "/etc/passwd", "a/../../up", "", ".", "..", "a\\..\\up", "C:/x", "sub/\0"],
)
def test_a_name_that_leads_out_of_the_directory_is_refused(
    folder: Path, tmp_path: Path, name: str
) -> None:
    bad = file_of(folder, "config.json", relative_file_name=name)
    with pytest.raises(CheckpointError, match="leads out"):
        fetch_files([file_of(folder, "config.json"), bad], tmp_path / "copy", copy_linked_file)
    assert not (tmp_path / "copy").exists()


def test_a_file_of_another_size_is_refused_and_nothing_is_kept(
    folder: Path, tmp_path: Path
) -> None:
    files = [file_of(folder, "config.json"), file_of(folder, "sub/weights", size_bytes=6)]
    with pytest.raises(CheckpointError, match="has 5 bytes, 6 were expected"):
        fetch_files(files, tmp_path / "copy", copy_linked_file)
    assert not (tmp_path / "copy").exists()


def test_a_file_that_is_gone_is_an_error_that_names_it(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="'lost': the file cannot be copied"):
        fetch_files([file_of(folder, "lost")], tmp_path / "copy", copy_linked_file)


def test_two_files_of_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="same name"):
        fetch_files([file_of(folder, "config.json")] * 2, tmp_path / "copy", copy_linked_file)


def test_a_link_that_cannot_be_read_here_is_unsupported(folder: Path, tmp_path: Path) -> None:
    far = file_of(folder, "config.json", url="https://files.example/config.json?key=s")
    with pytest.raises(UnsupportedError, match="scheme 'https'"):
        fetch_files([far], tmp_path / "copy", copy_linked_file)
    assert not (tmp_path / "copy").exists()


def test_several_files_are_fetched_at_a_time_but_not_all(folder: Path, tmp_path: Path) -> None:
    lock = threading.Lock()
    four_are_there = threading.Barrier(4)
    at_once: list[int] = [0, 0]

    def fetch(url: str, target: Path, *, size_bytes: int) -> None:
        with lock:
            at_once[0] += 1
            at_once[1] = max(at_once)
        four_are_there.wait(timeout=10)
        copy_linked_file(url, target, size_bytes=size_bytes)
        with lock:
            at_once[0] -= 1

    files = [
        file_of(folder, "config.json", relative_file_name=f"{number}.json") for number in range(8)
    ]
    assert fetch_files(files, tmp_path / "copy", fetch).file_count == 8
    assert at_once[1] == 4


def test_a_failed_download_leaves_an_empty_directory_as_it_was(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "copy").mkdir()
    files = [file_of(folder, "sub/weights"), file_of(folder, "lost")]
    with pytest.raises(CheckpointError, match="lost"):
        fetch_files(files, tmp_path / "copy", copy_linked_file)
    assert list((tmp_path / "copy").iterdir()) == []
