"""What the tests of faults share: a server for each module, and a run of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.faults.clocks import SkippingClock
from tests.faults.proxy import Proxy
from tests.faults.training import Training
from tests.serving import KEY, Server

from loops_core import ServiceClient


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve the mock to all tests of a module."""
    with Server(tmp_path_factory.mktemp("serving") / "data") as server:
        yield server


@pytest.fixture
def proxy(serving: Server) -> Iterator[Proxy]:
    """Stand between the client and the server."""
    with Proxy(serving.url) as proxy:
        yield proxy


@pytest.fixture
def training(proxy: Proxy) -> Iterator[Training]:
    """Train over the proxy, with a clock whose pauses take no time."""
    clock = SkippingClock()
    with ServiceClient(base_url=proxy.url, api_key=KEY, clock=clock) as service:
        client = service.create_lora_training_client("mock-tiny", rank=2)
        yield Training(client, proxy, clock)
