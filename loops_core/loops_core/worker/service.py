"""The worker's front desk: answers every call of the protocol, whatever carried it here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, cast, final

from loops_core.clock import Clock
from loops_core.errors import SampleTimeoutError, ServerShutdownError
from loops_core.plugins import Plugins
from loops_core.protocols import Backend, CheckpointStore
from loops_core.types import routes
from loops_core.types.base import WireModel
from loops_core.types.deployment import Empty, ModelCard, ModelListing, PolicyVersion
from loops_core.types.routes import Call
from loops_core.types.sampling import Completions, SampleBody
from loops_core.worker.checkpoints import Checkpoints
from loops_core.worker.control import ControlPlane, body_of
from loops_core.worker.models import Models
from loops_core.worker.overview import Overview
from loops_core.worker.queue_settings import QueueSettings
from loops_core.worker.records import LOCAL_OWNER, Records
from loops_core.worker.runs import Deploy, Runs, deploy_at_once
from loops_core.worker.sampling import LiveWeights, SamplingDesk, to_completions
from loops_core.worker.trainers import TrainerDesk
from loops_core.worker.turning import THREADS, Turner

ReplyT = TypeVar("ReplyT", bound=WireModel)
ResultT = TypeVar("ResultT")
Handler = Callable[[Call[Any], str], WireModel]
"""Answers a call of an owner's."""

_SAMPLE_LIMIT_S: Final = 3600.0
"""The longest that one sample may take where its caller names no limit, in seconds."""

_MOST_THREADS: Final = 16
"""How many calls may open files, models or database rows at once, where a loop waits for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceParts:
    """What a service is made of.

    Attributes:
        backend: opens trainers and samplers; closed with the service.
        plugins: resolve model names and place runs.
        store: keeps checkpoints.
        directory: where records and logs are kept; None = in memory.
        clock: where time comes from.
        records_url: an SQLAlchemy URL for the records; None = a file in `directory`.
        served: the models on offer by name, each with what plugins resolve; None = all of them.
        local_paths: whether `load_state` may read directories of this machine.
        queue: the bounds of each run's queue.
        turner: turns the loops of runs and samplers.
        deploy: brings published weights to the samplers.
    """

    backend: Backend
    plugins: Plugins
    store: CheckpointStore
    directory: Path | None
    clock: Clock
    records_url: str | None = None
    served: Mapping[str, str] | None = None
    local_paths: bool = True
    queue: QueueSettings = field(default_factory=QueueSettings)
    turner: Turner = THREADS
    deploy: Deploy = deploy_at_once


@final
class Service:
    """Control plane, trainers and samplers in one process.

    `handle` blocks for as long as the call says, `handle_async` waits without a thread. Every call
    has an owner; what belongs to another one does not exist for it.
    """

    def __init__(self, parts: ServiceParts) -> None:
        """Open records and make the desks; trainers and samplers open on first use."""
        self._records = Records.open(parts.directory, url=parts.records_url)
        self._checkpoints = Checkpoints(parts.store, self._records, parts.clock)
        self._models = Models(
            parts.backend, parts.plugins, parts.clock, served=parts.served, turner=parts.turner
        )
        self._live = LiveWeights()
        self._desk = SamplingDesk(self._records, self._checkpoints, self._live, self._models.engine)
        self._runs = Runs(
            parts.directory,
            self._records,
            self._checkpoints,
            self._models,
            self._desk,
            self._live,
            parts.clock,
            parts.queue,
            turner=parts.turner,
            deploy=parts.deploy,
        )
        self._control = ControlPlane(
            self._records, self._checkpoints, self._models, self._runs, parts.clock
        )
        self._overview = Overview(self._records, self._runs)
        self._trainers = TrainerDesk(
            self._runs, parts.clock, local_paths=parts.local_paths, queue=parts.queue
        )
        self._threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="loops-service")
        self._closed = False
        self._handlers = self._make_handlers()

    def handle(self, call: Call[ReplyT], *, owner: str = LOCAL_OWNER) -> ReplyT:
        """Answer a call on the calling thread.

        Raises:
            LoopsError: the call is refused; nothing was changed.
            ServerShutdownError: the service is closed.
        """
        self._check_open()
        return cast("ReplyT", self._handlers[call.route.name](call, owner))

    async def handle_async(self, call: Call[ReplyT], *, owner: str = LOCAL_OWNER) -> ReplyT:
        """Answer a call without blocking the event loop; raises as `handle` does."""
        self._check_open()
        if call.route.name == routes.SAMPLE.name:
            return cast("ReplyT", await self._sample_async(call, owner))
        if call.route.service == "trainer":
            await self._open(call, owner)
            answer = await self._trainers.answer_async(call, owner)
            if answer is not None:
                return cast("ReplyT", answer)
        return await self._in_thread(lambda: self.handle(call, owner=owner))

    def preload(self, base_model: str) -> None:
        """Load a base model's weights now, not at the first need; raises as opening it does."""
        self._models.engine(base_model)

    def forget_results(self) -> None:
        """Drop the results of all operations that have ended, as if their time were over."""
        self._runs.forget_results()

    def close(self) -> None:
        """Finish the running operations, wake everybody who waits, and give back everything."""
        if self._closed:
            return
        self._closed = True
        self._runs.close()
        self._models.close()
        self._threads.shutdown(cancel_futures=True)
        self._records.close()

    def _make_handlers(self) -> dict[str, Handler]:
        return {
            routes.LIST_TEAMS.name: self._overview.teams,
            routes.CREATE_SESSION.name: self._control.create_session,
            routes.GET_SESSION.name: self._overview.session,
            routes.CREATE_TRAINER.name: self._control.create_trainer,
            routes.LIST_RUNS.name: self._overview.runs,
            routes.GET_RUN.name: self._overview.run,
            routes.DEACTIVATE_RUN.name: self._overview.deactivate_run,
            routes.CREATE_SAMPLER.name: self._control.create_sampler,
            routes.LIST_SAMPLERS.name: self._overview.samplers,
            routes.GET_SAMPLER.name: self._overview.sampler,
            routes.LIST_DEPLOYMENTS.name: self._overview.deployments,
            routes.GET_DEPLOYMENT.name: self._overview.deployment,
            routes.GET_MODEL_DEPLOYMENT.name: self._overview.model_deployment,
            routes.GET_CAPABILITIES.name: self._control.capabilities,
            routes.LIST_CHECKPOINTS.name: self._control.list_checkpoints,
            routes.GET_CHECKPOINT_FILES.name: self._control.checkpoint_files,
            routes.GET_CHECKPOINT_SOURCE.name: self._control.checkpoint_source,
            routes.VALIDATE_CHECKPOINT.name: self._control.validate_checkpoint,
            **self._trainers.handlers(),
            routes.SAMPLE.name: self._sample,
            routes.LIST_MODELS.name: self._list_models,
            routes.SAMPLER_POLICY_VERSION.name: self._sampler_version,
            routes.SAMPLER_HEALTH.name: self._sampler_health,
            routes.WAKE.name: self._sampler_health,
        }

    def _check_open(self) -> None:
        if self._closed:
            raise ServerShutdownError("the service is closed")

    async def _open(self, call: Call[Any], owner: str) -> None:
        """Let a run of an earlier process be opened on a thread: it loads a model."""
        if call.run_id is not None and self._runs.peek(call.run_id, owner=owner) is None:
            await self._in_thread(lambda: self._runs.get(call.run_id or "", owner=owner))

    async def _in_thread(self, function: Callable[[], ResultT]) -> ResultT:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function)
        except RuntimeError as error:
            if self._closed:
                raise ServerShutdownError("the service is closed") from error
            raise

    def _sample(self, call: Call[Any], owner: str) -> Completions:
        body = body_of(call, SampleBody)
        future = self._desk.sample(body, call.pin, owner=owner)
        try:
            return to_completions(body, future.result(_limit_s(call)))
        except TimeoutError as error:
            raise _too_late(call) from error
        finally:
            future.cancel()

    async def _sample_async(self, call: Call[Any], owner: str) -> Completions:
        body = body_of(call, SampleBody)
        future = await self._in_thread(lambda: self._desk.sample(body, call.pin, owner=owner))
        try:
            async with asyncio.timeout(_limit_s(call)):
                return to_completions(body, await asyncio.wrap_future(future))
        except TimeoutError as error:
            raise _too_late(call) from error
        finally:
            future.cancel()

    def _list_models(self, call: Call[Any], owner: str) -> ModelListing:
        base_model = self._desk.base_model(call.pin, owner=owner)
        cards = [ModelCard(id=base_model)]
        run_id = self._desk.paired_run(call.pin, owner=owner)
        weights = None if run_id is None else self._desk.live_of(run_id)
        if weights is not None and weights.adapter_id is not None:
            cards.append(ModelCard(id=weights.adapter_id, parent=base_model))
        return ModelListing(data=cards)

    def _sampler_version(self, call: Call[Any], owner: str) -> PolicyVersion:
        self._desk.base_model(call.pin, owner=owner)
        run_id = self._desk.paired_run(call.pin, owner=owner)
        return PolicyVersion(
            policy_version=0 if run_id is None else self._desk.live_of(run_id).version
        )

    def _sampler_health(self, call: Call[Any], owner: str) -> Empty:
        self._desk.base_model(call.pin, owner=owner)
        return Empty()


def _limit_s(call: Call[Any]) -> float:
    return _SAMPLE_LIMIT_S if call.timeout_s is None else call.timeout_s


def _too_late(call: Call[Any]) -> SampleTimeoutError:
    return SampleTimeoutError(
        f"the sample was not finished within {_limit_s(call):g} s", timeout=_limit_s(call)
    )
