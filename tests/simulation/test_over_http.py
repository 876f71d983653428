"""The same plans over real HTTP: a training sees the results that it sees where nothing happens."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Final, final

import pytest
import uvicorn
from tests.faults.clocks import SkippingClock
from tests.simulation.programs import Outcomes, train_under_trouble

from loops_core import ServiceClient
from loops_core.plugins import Plugins
from loops_core.worker.opening import CHECKPOINTS, ServiceOptions, open_service
from loops_mock.simulation.asgi import FaultyApp
from loops_mock.simulation.faults import FaultPlan, Restart
from loops_mock.simulation.world import World
from loops_transport_http.server.app import Front
from loops_transport_http.server.files import FileLinks
from loops_transport_http.server.keys import KeyRing
from loops_transport_http.server.running import make_config, open_socket
from loops_transport_http.server.settings import ServerSettings

NUM_SEEDS: Final = 4
PATIENCE_S: Final = 30.0


@final
class Served:
    """A server of the mock behind a plan; `service` as a world has it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._clients = contextlib.ExitStack()

    def service(self) -> ServiceClient:
        """Return a client whose pauses take no time."""
        client = ServiceClient(base_url=self._url, clock=SkippingClock())
        return self._clients.enter_context(client)

    def close(self) -> None:
        """Close the clients."""
        self._clients.close()


@contextlib.contextmanager
def serving(files: Path, plan: FaultPlan) -> Generator[tuple[Served, FaultyApp]]:
    """Serve the mock behind the plan, on a thread."""
    settings = ServerSettings()
    links = FileLinks.open(files, root=files / CHECKPOINTS, kept_s=settings.link_kept_s)
    options = ServiceOptions(backend="mock", files=files, directory=None)
    service = open_service(Plugins.load(), options)
    listener = open_socket("127.0.0.1", 0)
    front = Front(service, KeyRing.open_to_all(), links, settings)
    app = FaultyApp(front, plan, clock=SkippingClock())
    config = make_config(front)
    config.app = app
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    served = Served(f"http://127.0.0.1:{listener.getsockname()[1]}")
    try:
        yield served, app
        served.close()
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        listener.close()
        service.close()


@pytest.fixture(scope="module")
def expected() -> Outcomes:
    """Return what the program sees in a world where nothing happens."""
    with World(5) as world:
        return train_under_trouble(world)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(NUM_SEEDS))
def test_a_plan_changes_no_result_over_http(tmp_path: Path, expected: Outcomes, seed: int) -> None:
    plan = FaultPlan.seeded(seed, rate=0.3)
    with serving(tmp_path, plan) as (served, app):
        assert train_under_trouble(served) == expected, plan
        assert len(app.run.met) > 5


@pytest.mark.slow
def test_a_plan_meets_the_same_calls_over_http_as_in_a_world(tmp_path: Path) -> None:
    plan = FaultPlan.seeded(1, rate=0.5, routes=("forward_backward", "optim_step"))
    with World(5, plan) as world:
        train_under_trouble(world)
        in_world = {(met.route, met.number, met.faults) for met in world.met}
    with serving(tmp_path, FaultPlan((*plan.faults, Restart("sample")))) as (served, app):
        train_under_trouble(served)
        over_http = {(met.route, met.number, met.faults) for met in app.run.met}
    assert in_world == over_http
