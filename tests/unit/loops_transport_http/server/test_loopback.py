"""A server that asks for no key answers this machine, and no page in a browser on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from loops_core.worker.opening import CHECKPOINTS
from loops_core.worker.service import Service
from loops_transport_http.server.app import Front
from loops_transport_http.server.files import FileLinks
from loops_transport_http.server.keys import KeyRing
from loops_transport_http.server.settings import ServerSettings


@pytest.fixture
async def anybody(service: Service, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of a server without keys that has a public address."""
    links = FileLinks.open(tmp_path, root=tmp_path / CHECKPOINTS, kept_s=3600)
    settings = ServerSettings(public_url="https://loops.test/here")
    front = Front(service, KeyRing.open_to_all(), links, settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(front)) as client:
        yield client


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:80", "loops.test"])
async def test_this_machine_and_the_public_address_are_answered(
    host: str, anybody: httpx.AsyncClient
) -> None:
    reply = await anybody.get("http://x/v1/teams", headers={"Host": host})
    assert reply.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.test"},
        {"Host": "127.0.0.1.evil.test"},
        {"Host": "localhost", "Origin": "http://evil.test"},
        {"Host": "["},
    ],
)
async def test_a_page_of_another_site_is_refused(
    headers: dict[str, str], anybody: httpx.AsyncClient
) -> None:
    reply = await anybody.post("http://x/v1/loops/sessions", headers=headers)
    assert reply.status_code == 403
    assert reply.headers["x-baseten-error-source"] == "06"
