"""The worker of a world: the real service, which dies and comes back from what is durable."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from loops_core.errors import UnreachableError
from loops_core.plugins import Plugins
from loops_core.protocols import Backend
from loops_core.worker.queue_settings import QueueSettings
from loops_core.worker.records import CheckpointRecord
from loops_core.worker.service import Service, ServiceParts
from loops_mock.simulation.clock import WorldClock
from loops_mock.simulation.durations import Durations
from loops_mock.simulation.store import WorldStore
from loops_mock.simulation.turner import WorldTurner


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerParts:
    """What a worker is made of.

    Attributes:
        open_backend: makes the backend, anew after each death.
        plugins: resolve model names.
        files: where checkpoints are kept.
        directory: where records and logs are kept; None = in memory.
        queue: the bounds of each run's queue.
        durations: how long a deploy takes.
        rng: draws them.
    """

    open_backend: Callable[[], Backend]
    plugins: Plugins
    files: Path
    directory: Path | None
    queue: QueueSettings
    durations: Durations
    rng: random.Random


@final
class WorldWorker:
    """The service of a world, while there is one.

    Attributes:
        store: where its checkpoints are.
    """

    def __init__(self, parts: WorkerParts, clock: WorldClock, turner: WorldTurner) -> None:
        """Open the service."""
        self._parts = parts
        self._clock = clock
        self._turner = turner
        self._deaths = 0
        self._deployed_s: dict[str, float] = {}
        self._withheld: set[tuple[str, str]] = set()
        self.store = WorldStore(parts.files, clock)
        self._service: Service | None = self._open()

    @property
    def service(self) -> Service:
        """Return the service.

        Raises:
            UnreachableError: the worker is down.
        """
        if self._service is None:
            raise UnreachableError("no connection: nobody listens where the worker was")
        return self._service

    @property
    def deaths(self) -> int:
        """Return how often it has died."""
        return self._deaths

    def die(self, *, down_s: float) -> None:
        """End as a killed process does; come back after so many seconds. Dead already: nothing."""
        if self._service is None:
            return
        self._note("down", "worker")
        service, self._service = self._service, None
        self._deaths += 1
        self._turner.kill()
        service.close()
        self._turner.loop.call_later(down_s, self._come_back)

    def forget_results(self) -> None:
        """Drop the results of everything that has ended."""
        if self._service is not None:
            self._service.forget_results()

    def withhold(self, run_id: str, name: str) -> None:
        """Never let the weights that are published under this name answer."""
        self._withheld.add((run_id, name))

    def close(self) -> None:
        """End in good order."""
        service, self._service = self._service, None
        if service is not None:
            service.close()

    def _come_back(self) -> None:
        self._note("up", "worker")
        self._service = self._open()

    def _open(self) -> Service:
        parts = self._parts
        return Service(
            ServiceParts(
                backend=parts.open_backend(),
                plugins=parts.plugins,
                store=self.store,
                directory=parts.directory,
                clock=self._clock,
                queue=parts.queue,
                turner=self._turner,
                deploy=self._deploy,
            )
        )

    def _deploy(self, record: CheckpointRecord, go: Callable[[], None]) -> None:
        """Let published weights answer a little later, those of a run in their order."""
        if (record.run_id, record.name) in self._withheld:
            self._note("fault", "withheld", record.version)
            return
        now_s = self._clock.monotonic()
        pause_s = self._parts.durations.draw(self._parts.durations.deploy_s, self._parts.rng)
        at_s = max(now_s + pause_s, self._deployed_s.get(record.run_id, 0.0))
        self._deployed_s[record.run_id] = at_s
        deaths = self._deaths

        def arrive() -> None:
            if deaths == self._deaths and self._service is not None:
                self._note("deploy", "version", record.version)
                go()

        self._turner.loop.call_at(at_s, arrive)

    def _note(self, what: str, about: str, detail: int | None = None) -> None:
        self._turner.trace.add(self._clock.monotonic(), what, about, detail)
