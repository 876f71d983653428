"""Links to checkpoint files: signed, valid for a while, in ranges, and no way leads elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from tests.unit.loops_transport_http.server.conftest import key_header
from tests.unit.loops_transport_http.server.life import Json, done, open_run

from loops_core.worker.opening import CHECKPOINTS
from loops_transport_http.server.app import Front
from loops_transport_http.server.files import FileLinks


@pytest.fixture
async def anybody(make_front: Callable[..., Front]) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client without a key, of the same data directory."""
    transport = httpx.ASGITransport(make_front())
    async with httpx.AsyncClient(transport=transport) as client:
        yield client


async def saved(http: httpx.AsyncClient) -> str:
    """Save a checkpoint and return its id."""
    run = await open_run(http)
    await done(http, run["base_url"], "save_weights_for_sampler", name="first")
    listing = (await http.get("/v1/loops/checkpoints", params={"run_id": run["id"]})).json()
    return listing["checkpoints"][0]["id"]


async def page(http: httpx.AsyncClient, checkpoint_id: str, **query: int) -> Json:
    path = f"/v1/loops/checkpoints/{checkpoint_id}/files"
    return (await http.get(path, params=query)).json()


async def test_a_link_gives_the_file_to_who_has_it(
    http: httpx.AsyncClient, anybody: httpx.AsyncClient
) -> None:
    for file in (await page(http, await saved(http)))["presigned_urls"]:
        whole = await anybody.get(file["url"])
        assert whole.status_code == 200
        assert len(whole.content) == file["size_bytes"]
        head = await anybody.head(file["url"])
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) == file["size_bytes"]
        assert "x-loops-features" in whole.headers


@pytest.mark.parametrize(
    ("asked", "status", "cut"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=5-", 206, slice(5, None)),
        ("bytes=-4", 206, slice(-4, None)),
        ("bytes=0-999999999", 206, slice(0, None)),
        ("bytes=999999999-", 416, None),
        ("bytes=nonsense", 200, slice(0, None)),
        ("rows=1-2", 200, slice(0, None)),
    ],
)
async def test_ranges_are_answered(
    asked: str,
    status: int,
    cut: slice | None,
    http: httpx.AsyncClient,
    anybody: httpx.AsyncClient,
) -> None:
    url = (await page(http, await saved(http)))["presigned_urls"][0]["url"]
    whole = (await anybody.get(url)).content
    part = await anybody.get(url, headers={"Range": asked})
    assert part.status_code == status
    if cut is not None:
        assert part.content == whole[cut]


async def test_pages_follow_one_another_and_end(http: httpx.AsyncClient) -> None:
    checkpoint_id = await saved(http)
    first = await page(http, checkpoint_id, page_size=1)
    second = await page(http, checkpoint_id, page_size=1, page_token=first["next_page_token"])
    assert (first["total_count"], second["next_page_token"]) == (2, None)
    both = await page(http, checkpoint_id)
    names = [file["relative_file_name"] for file in both["presigned_urls"]]
    assert names == [each["presigned_urls"][0]["relative_file_name"] for each in (first, second)]


async def test_a_link_is_refused_once_its_time_is_over(
    http: httpx.AsyncClient, make_front: Callable[..., Front]
) -> None:
    url = (await page(http, await saved(http)))["presigned_urls"][0]["url"]
    transport = httpx.ASGITransport(make_front(link_kept_s=-1))
    async with httpx.AsyncClient(transport=transport) as later:
        reply = await later.get(url)
    assert reply.status_code == 403
    assert "time is over" in reply.json()["message"]


async def test_a_changed_link_is_refused(
    http: httpx.AsyncClient, anybody: httpx.AsyncClient
) -> None:
    url: str = (await page(http, await saved(http)))["presigned_urls"][0]["url"]
    token = urlsplit(url).path.split("/")[2]
    for changed in (f"x{token}", token[:-2], token.rpartition(".")[0], "..", "%2e%2e%2fkeys.json"):
        reply = await anybody.get(url.replace(token, changed))
        assert reply.status_code in (403, 404)


async def test_a_file_that_was_deleted_is_404(
    http: httpx.AsyncClient, anybody: httpx.AsyncClient, tmp_path: Path
) -> None:
    url = (await page(http, await saved(http)))["presigned_urls"][0]["url"]
    for path in (tmp_path / CHECKPOINTS).rglob("adapter_*"):
        path.unlink()
    assert (await anybody.get(url)).status_code == 404


@pytest.mark.parametrize("way_out", ["../secret", "run/../../secret", "link", "folder/secret"])
async def test_no_signed_name_leads_out_of_the_store(
    way_out: str, make_front: Callable[..., Front], tmp_path: Path
) -> None:
    root = tmp_path / CHECKPOINTS
    outside = tmp_path / "outside"
    outside.mkdir()
    for secret in (tmp_path / "secret", outside / "secret"):
        secret.write_text("not for you")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(outside)
    links = FileLinks.open(tmp_path, root=root, kept_s=3600)
    token = links.token_of(way_out)
    transport = httpx.ASGITransport(make_front())
    async with httpx.AsyncClient(transport=transport, base_url="http://loops.test") as client:
        reply = await client.get(f"/files/{token}/secret")
    assert reply.status_code == 404
    assert "not for you" not in reply.text


async def test_the_secret_of_the_links_is_its_owners_alone(
    http: httpx.AsyncClient, tmp_path: Path
) -> None:
    await http.get("/health")
    assert (tmp_path / "links.secret").stat().st_mode & 0o777 == 0o600


async def test_another_owner_gets_no_links(
    http: httpx.AsyncClient, anybody: httpx.AsyncClient
) -> None:
    checkpoint_id = await saved(http)
    path = f"http://loops.test/v1/loops/checkpoints/{checkpoint_id}/files"
    assert (await anybody.get(path, headers=key_header("bob"))).status_code == 404
