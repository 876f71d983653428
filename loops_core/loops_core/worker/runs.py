"""The runs that a worker has open: each a queue of operations, and the machine that it drives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from loops_core.clock import Clock
from loops_core.errors import NotFoundError, ServerShutdownError
from loops_core.protocols import TrainerDescription
from loops_core.worker.checkpoints import Checkpoints
from loops_core.worker.engine import Weights
from loops_core.worker.host import OperationQueue
from loops_core.worker.keyed_lock import KeyedLock
from loops_core.worker.machine import TrainerMachine
from loops_core.worker.models import Models
from loops_core.worker.queue_settings import QueueSettings
from loops_core.worker.records import CheckpointRecord, CreateRecord, Records, RunRecord
from loops_core.worker.sampling import LiveWeights, SamplingDesk
from loops_core.worker.turning import THREADS, Turner


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """A run whose trainer is in this process.

    Attributes:
        record: what the run is.
        machine: its state; only the log's thread may change it.
        queue: where its operations go.
        description: what its trainer is; submits are checked against it.
    """

    record: RunRecord
    machine: TrainerMachine
    queue: OperationQueue
    description: TrainerDescription


Deploy = Callable[[CheckpointRecord, Callable[[], None]], None]
"""Brings published weights to the samplers: calls the second argument once they may answer."""


def deploy_at_once(record: CheckpointRecord, go: Callable[[], None]) -> None:
    """Let published weights answer with the operation that published them."""
    del record
    go()


@final
class _LivePublisher:
    """Lets published weights answer for one run."""

    def __init__(
        self, desk: SamplingDesk, live: LiveWeights, models: Models, deploy: Deploy
    ) -> None:
        self._desk = desk
        self._live = live
        self._models = models
        self._deploy = deploy

    def publish(self, record: CheckpointRecord) -> None:
        """Let the checkpoint's weights answer from when they are deployed."""
        weights = self._desk.loaded(record)

        def go() -> None:
            self._live.set(record.run_id, weights)
            self._models.published(record.base_model)

        self._deploy(record, go)


@final
class Runs:
    """Opens runs, new ones and those of an earlier process, and closes them."""

    def __init__(
        self,
        directory: Path | None,
        records: Records,
        checkpoints: Checkpoints,
        models: Models,
        desk: SamplingDesk,
        live: LiveWeights,
        clock: Clock,
        queue: QueueSettings,
        *,
        turner: Turner = THREADS,
        deploy: Deploy = deploy_at_once,
    ) -> None:
        """Keep logs in a folder for each run below `directory`, or in memory."""
        self._directory = directory
        self._records = records
        self._checkpoints = checkpoints
        self._models = models
        self._live = live
        self._publisher = _LivePublisher(desk, live, models, deploy)
        self._clock = clock
        self._queue = queue
        self._turner = turner
        self._lock = threading.Lock()
        self._opening = KeyedLock()
        self._open: dict[str, OpenRun] = {}
        self._closed = False

    def start(self, record: RunRecord, *, create: CreateRecord | None = None) -> OpenRun:
        """Open a run that is new; its record is kept once its trainer stands."""
        with self._opening.hold(record.id):
            run = self._open_run(record)
            self._records.add(record, create=create)
            return run

    def peek(self, run_id: str, *, owner: str) -> OpenRun | None:
        """Return a run of the owner's if it is open; waits for nothing."""
        run = self._open.get(run_id)
        return run if run is not None and run.record.owner == owner else None

    def get(self, run_id: str, *, owner: str) -> OpenRun:
        """Return a run; one of an earlier process is opened from its snapshot and log.

        Raises:
            NotFoundError: the owner has no such run, or it was deactivated.
        """
        run = self.peek(run_id, owner=owner)
        if run is not None:
            return run
        with self._opening.hold(run_id):
            run = self.peek(run_id, owner=owner)
            if run is not None:
                return run
            record = self._records.run(run_id, owner=owner)
            if record is None or record.ended_s is not None:
                raise NotFoundError(
                    f"run_id {run_id!r}: there is no such active run", kind="run", name=run_id
                )
            return self._open_run(record)

    def deactivate(self, record: RunRecord) -> None:
        """End a run for good; its checkpoints stay. What runs is finished, what waits is not."""
        with self._opening.hold(record.id):
            self._records.end_run(record.id, now_s=self._clock.now())
            with self._lock:
                run = self._open.pop(record.id, None)
        if run is not None:
            run.queue.close()

    def forget_results(self) -> None:
        """Drop the results of all operations that have ended, in the runs that are open."""
        for run in list(self._open.values()):
            run.queue.forget_results()

    def close(self) -> None:
        """Close all runs; queued operations of durable logs wait for the next start."""
        with self._lock:
            self._closed = True
            runs, self._open = list(self._open.values()), {}
        for run in runs:
            run.queue.close()

    def _open_run(self, record: RunRecord) -> OpenRun:
        if self._closed:
            raise ServerShutdownError("the service is closed")
        trainer = self._models.open_trainer(record)
        machine = TrainerMachine(record, trainer, self._checkpoints, self._publisher)
        answering = self._records.live_checkpoint(record.id)
        if answering is None:
            self._live.begin(record.id, Weights())
        else:
            self._publisher.publish(answering)
        directory = None if self._directory is None else self._directory / "runs" / record.id
        try:
            queue = OperationQueue.open(
                directory, machine, settings=self._queue, clock=self._clock, turner=self._turner
            )
        except BaseException:
            machine.close()
            raise
        description = trainer.describe()
        run = OpenRun(record=record, machine=machine, queue=queue, description=description)
        with self._lock:
            closed = self._closed
            if not closed:
                self._open[record.id] = run
        if closed:
            queue.close()
            raise ServerShutdownError("the service is closed")
        return run
