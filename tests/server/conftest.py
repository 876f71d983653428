"""What the tests of a running server share: the process, and a client that has its key."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from tests.serving import KEY, Server, server

__all__ = ["server"]


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    """Return a plain HTTP client of the served address."""
    headers = {"Authorization": f"Api-Key {KEY}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        yield client
