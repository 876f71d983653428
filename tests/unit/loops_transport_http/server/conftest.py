"""A server over the mock: its application without a socket, or on a loopback port in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import httpx
import pytest
import uvicorn

from loops_core.plugins import Plugins
from loops_core.worker.opening import CHECKPOINTS, ServiceOptions, open_service
from loops_core.worker.service import Service
from loops_transport_http.server.app import Front
from loops_transport_http.server.files import FileLinks
from loops_transport_http.server.keys import KeyRing
from loops_transport_http.server.running import make_config, open_socket
from loops_transport_http.server.settings import ServerSettings

KEYS: Final = {"alice": "alices-key", "bob": "bobs-key"}
"""The owners of the served things, and their keys."""

Serve = Callable[[ServerSettings], tuple[str, int]]
"""Serves with these settings; tells host and port."""


def key_header(owner: str) -> dict[str, str]:
    """Return the header that shows an owner's key."""
    return {"Authorization": f"Api-Key {KEYS[owner]}"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    options = ServiceOptions(
        backend="mock",
        files=tmp_path,
        directory=None,
        served={"mock-tiny": "mock-tiny"},
        local_paths=False,
    )
    opened = open_service(Plugins.load(), options)
    yield opened
    opened.close()


@pytest.fixture
def make_front(service: Service, tmp_path: Path) -> Callable[..., Front]:
    """Return a function that makes the application with these settings."""

    def make(settings: ServerSettings | None = None, *, link_kept_s: int = 3600) -> Front:
        keys = KeyRing.of_keys([f"{owner}={key}" for owner, key in KEYS.items()])
        links = FileLinks.open(tmp_path, root=tmp_path / CHECKPOINTS, kept_s=link_kept_s)
        return Front(service, keys, links, settings or ServerSettings())

    return make


@pytest.fixture
async def http(make_front: Callable[..., Front]) -> AsyncIterator[httpx.AsyncClient]:
    """Return Alice's client of the application, without a socket."""
    transport = httpx.ASGITransport(make_front())
    async with httpx.AsyncClient(
        transport=transport, base_url="http://loops.test", headers=key_header("alice")
    ) as client:
        yield client


@pytest.fixture
def serve(
    make_front: Callable[..., Front],
) -> Iterator[Callable[[ServerSettings], tuple[str, int]]]:
    """Return a function that serves with these settings, and tells host and port."""
    with ExitStack() as resources:

        def start(settings: ServerSettings) -> tuple[str, int]:
            listener = open_socket("127.0.0.1", 0)
            resources.callback(listener.close)
            ready = threading.Event()
            servers: list[uvicorn.Server] = []

            async def main() -> None:
                server = uvicorn.Server(make_config(make_front(settings)))
                servers.append(server)
                running = asyncio.ensure_future(server.serve([listener]))
                ready.set()
                await running

            thread = threading.Thread(target=lambda: asyncio.run(main()))
            thread.start()
            resources.callback(thread.join)
            ready.wait(10)
            resources.callback(lambda: setattr(servers[0], "should_exit", True))
            return listener.getsockname()

        yield start
