"""The world: everything between a client and its model, under one seed and on virtual time."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, final

from loops_core import chance
from loops_core.client.service import ServiceClient
from loops_core.hooks import TransportConfig, hookimpl
from loops_core.plugins import Plugins
from loops_core.protocols import Backend, BackendConfig, Transport
from loops_core.worker.queue_settings import QueueSettings
from loops_mock.backend import MockBackend
from loops_mock.simulation.clock import WorldClock
from loops_mock.simulation.durations import Durations
from loops_mock.simulation.faults import FaultPlan, Met
from loops_mock.simulation.loop import VirtualLoop
from loops_mock.simulation.network import Network, WorldTransport
from loops_mock.simulation.trace import Trace
from loops_mock.simulation.turner import WorldTurner
from loops_mock.simulation.worker import WorkerParts, WorldWorker

T = TypeVar("T")

URL: Final = "sim:world"
"""The `base_url` of a world's service; it leads there with the world's plugins only."""

_WRITING_SHARE: Final = 0.1


@final
class World:
    """Client, network, worker and clock on one event loop, whose time passes at once.

    What a program does in a world depends on the world's seed and plan, and on the program: equal
    ones have equal traces, on every platform. Everything happens on the thread that made the world.
    Blocking calls let time pass until they return; inside `run` the `*_async` forms do.

    Attributes:
        seed: where all chance comes from.
        faults: what happens to which call.
        clock: the world's time.
        trace: what happened so far.
        plugins: the installed plugins and the world's transport.

    Example:
        >>> from loops_mock.simulation.world import World
        >>> with World(seed=7) as world:
        ...     world.clock.sleep(3600.0)  # at once
        ...     world.clock.monotonic()
        3600.0
    """

    def __init__(
        self,
        seed: int,
        faults: FaultPlan | None = None,
        *,
        durations: Durations | None = None,
        durable: bool | None = None,
        queue: QueueSettings | None = None,
        open_backend: Callable[[], Backend] | None = None,
    ) -> None:
        """Begin a world at time 0.

        Args:
            seed: where all chance comes from: ids, durations, the jitter of retries.
            faults: what happens to which call; None = nothing.
            durations: how long things take; None = those of a small model.
            durable: whether logs and records are files that outlive the worker; None = where it
                dies in the plan. In memory is faster.
            queue: the bounds of each run's queue.
            open_backend: makes the backend, anew after each death; None = the mock.
        """
        self.seed = seed
        self.faults = faults or FaultPlan()
        self.trace = Trace()
        self._loop = VirtualLoop()
        self._rng = random.Random(f"{seed}/ids")
        self.clock = WorldClock(self._loop, self._rng)
        self.plugins = Plugins.load(extra=[self])
        self._files = tempfile.TemporaryDirectory(prefix="loops-world-")
        self._durations = durations or Durations()
        turner = WorldTurner(
            self._loop, self._durations, self.trace, random.Random(f"{seed}/worker")
        )
        is_durable = self.faults.needs_durable if durable is None else durable
        if is_durable:
            turner.writing_share = _WRITING_SHARE
        parts = self._parts(queue or QueueSettings(), open_backend, is_durable=is_durable)
        with chance.drawn_from(self._rng):
            self._worker = WorldWorker(parts, self.clock, turner)
        self._network = Network(
            self._worker,
            self.faults.begin(),
            clock=self.clock,
            turner=turner,
            durations=self._durations,
            rng=random.Random(f"{seed}/network"),
        )
        self._clients: list[ServiceClient] = []

    @property
    def met(self) -> list[Met]:
        """Return the calls that met a fault so far."""
        return self._network.plan.met

    def service(self) -> ServiceClient:
        """Return a new client of the world's service; closed with the world."""
        with chance.drawn_from(self._rng):
            client = ServiceClient(base_url=URL, plugins=self.plugins, clock=self.clock)
        self._clients.append(client)
        return client

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine returns; time passes until then.

        Raises:
            UsageError: another thread asks, a loop runs on this one, or nothing is left to happen.
        """
        return self.clock.run(work)

    def close(self) -> None:
        """Close the clients and the worker, and remove the world's files; twice is no error."""
        clients, self._clients = self._clients, []
        if self._loop.is_closed():
            return
        for client in clients:
            client.close()
        self._worker.close()
        self._loop.close()
        self._files.cleanup()

    def __enter__(self) -> Self:
        """Return the world."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the world."""
        self.close()

    def open_transport(self) -> Transport:
        """Return a new transport into this world, for a client that is not opened by its URL."""
        return WorldTransport(self._network)

    @hookimpl
    def loops_transport(self, url: str, config: TransportConfig) -> Transport | None:
        """Return a transport into this world for its URL."""
        del config
        return self.open_transport() if url == URL else None

    def _parts(
        self, queue: QueueSettings, open_backend: Callable[[], Backend] | None, *, is_durable: bool
    ) -> WorkerParts:
        root = Path(self._files.name)
        if is_durable:
            (root / "data").mkdir()
        return WorkerParts(
            open_backend=open_backend or self._open_mock,
            plugins=self.plugins,
            files=root / "checkpoints",
            directory=root / "data" if is_durable else None,
            queue=queue,
            durations=self._durations,
            rng=random.Random(f"{self.seed}/deploys"),
        )

    def _open_mock(self) -> Backend:
        return MockBackend(BackendConfig(losses=self.plugins.loss_functions()))
