"""Our client against `loops serve`: what the contract suite does not ask."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.serving import KEY, Server

from loops_core import ServiceClient

pytestmark = pytest.mark.slow


def test_a_checkpoint_is_downloaded_over_the_servers_links(server: Server, tmp_path: Path) -> None:
    with ServiceClient(base_url=server.url, api_key=KEY) as service:
        trainer = service.create_lora_training_client("mock-tiny", rank=4)
        trainer.save_state("one").result()
        links = trainer.get_checkpoint_archive_url("one").presigned_urls
        download = trainer.download_checkpoint("one", dest_dir=tmp_path / "copy")
    files = {path for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert all(link.url.startswith(server.url) for link in links)
    assert {path.relative_to(tmp_path / "copy").as_posix() for path in files} == {
        link.relative_file_name for link in links
    }
    assert download.bytes_written == sum(path.stat().st_size for path in files) > 0
