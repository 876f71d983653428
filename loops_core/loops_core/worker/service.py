"""The worker's front desk: answers every call of the protocol, whatever carried it here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, cast, final

from loops_core.clock import Clock
from loops_core.errors import (
    SampleTimeoutError,
    ServerShutdownError,
    UsageError,
)
from loops_core.plugins import Plugins
from loops_core.protocols import Backend, CheckpointStore
from loops_core.types import routes
from loops_core.types.base import WireModel
from loops_core.types.deployment import (
    Empty,
    ModelCard,
    ModelListing,
    PolicyVersion,
)
from loops_core.types.operation import (
    OPERATIONS,
    Accepted,
    CancelReply,
    OperationKind,
    OperationStatus,
)
from loops_core.types.routes import Call
from loops_core.types.sampling import Completions, SampleBody
from loops_core.worker.checkpoints import Checkpoints
from loops_core.worker.control import ControlPlane, body_of
from loops_core.worker.models import Models
from loops_core.worker.records import Records
from loops_core.worker.runs import OpenRun, Runs
from loops_core.worker.sampling import LiveWeights, SamplingDesk, to_completions
from loops_core.worker.validation import check_operation

ReplyT = TypeVar("ReplyT", bound=WireModel)

_SAMPLE_LIMIT_S: Final = 3600.0
"""The longest that one sample may take where its caller names no limit, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceParts:
    """What a service is made of.

    Attributes:
        backend: opens trainers and samplers; closed with the service.
        plugins: resolve model names and place runs.
        store: keeps checkpoints.
        directory: where records and logs are kept; None = in memory.
        clock: where time comes from.
    """

    backend: Backend
    plugins: Plugins
    store: CheckpointStore
    directory: Path | None
    clock: Clock


@final
class Service:
    """Control plane, trainers and samplers in one process.

    `handle` blocks for as long as the call says, `handle_async` waits without a thread.
    """

    def __init__(self, parts: ServiceParts) -> None:
        """Open records and make the desks; trainers and samplers open on first use."""
        self._records = Records.open(parts.directory)
        self._checkpoints = Checkpoints(parts.store, self._records, parts.clock)
        self._models = Models(parts.backend, parts.plugins, parts.clock)
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
        )
        self._control = ControlPlane(
            self._records, self._checkpoints, self._models, self._runs, parts.clock
        )
        self._closed = False
        self._handlers = self._make_handlers()

    def handle(self, call: Call[ReplyT]) -> ReplyT:
        """Answer a call on the calling thread.

        Raises:
            LoopsError: the call is refused; nothing was changed.
            ServerShutdownError: the service is closed.
        """
        self._check_open()
        return cast("ReplyT", self._handlers[call.route.name](call))

    async def handle_async(self, call: Call[ReplyT]) -> ReplyT:
        """Answer a call without blocking the event loop; raises as `handle` does."""
        self._check_open()
        if call.route.name == routes.RETRIEVE.name:
            return cast("ReplyT", await self._retrieve_async(call))
        if call.route.name == routes.SAMPLE.name:
            return cast("ReplyT", await self._sample_async(call))
        return await asyncio.to_thread(self.handle, call)

    def close(self) -> None:
        """Finish the running operations, wake everybody who waits, and give back everything."""
        if self._closed:
            return
        self._closed = True
        self._runs.close()
        self._models.close()
        self._records.close()

    def _make_handlers(self) -> dict[str, Callable[[Call[Any]], WireModel]]:
        return {
            routes.CREATE_SESSION.name: self._control.create_session,
            routes.CREATE_TRAINER.name: self._control.create_trainer,
            routes.CREATE_SAMPLER.name: self._control.create_sampler,
            routes.GET_CAPABILITIES.name: self._control.capabilities,
            routes.LIST_CHECKPOINTS.name: self._control.list_checkpoints,
            routes.GET_CHECKPOINT_FILES.name: self._control.checkpoint_files,
            routes.VALIDATE_CHECKPOINT.name: self._control.validate_checkpoint,
            **{route.name: self._submit for route in routes.SUBMIT.values()},
            routes.RETRIEVE.name: self._retrieve,
            routes.CANCEL.name: self._cancel,
            routes.HEALTH.name: self._health,
            routes.POLICY_VERSION.name: self._policy_version,
            routes.SAMPLE.name: self._sample,
            routes.LIST_MODELS.name: self._list_models,
            routes.SAMPLER_POLICY_VERSION.name: self._sampler_version,
        }

    def _check_open(self) -> None:
        if self._closed:
            raise ServerShutdownError("the service is closed")

    def _run_of(self, call: Call[Any]) -> OpenRun:
        if call.run_id is None:
            raise UsageError(f"{call.route.name} needs a run_id", field="run_id")
        return self._runs.get(call.run_id)

    def _submit(self, call: Call[Any]) -> Accepted:
        kind = OperationKind(call.route.name)
        body = body_of(call, OPERATIONS[kind].body_type)
        run = self._run_of(call)
        check_operation(body, run.description)
        return Accepted(
            operation_id=run.queue.submit(kind, body, idempotency_key=call.idempotency_key)
        )

    def _retrieve(self, call: Call[Any]) -> OperationStatus:
        queue = self._run_of(call).queue
        return queue.wait(call.path_args["operation_id"], hold_s=call.hold_s)

    async def _retrieve_async(self, call: Call[Any]) -> OperationStatus:
        queue = self._run_of(call).queue
        return await queue.wait_async(call.path_args["operation_id"], hold_s=call.hold_s)

    def _cancel(self, call: Call[Any]) -> CancelReply:
        queue = self._run_of(call).queue
        return CancelReply(cancelled=queue.cancel(call.path_args["operation_id"]))

    def _health(self, call: Call[Any]) -> Empty:
        if call.run_id is not None:
            self._runs.get(call.run_id).queue.check_running()
        return Empty()

    def _policy_version(self, call: Call[Any]) -> PolicyVersion:
        return PolicyVersion(policy_version=self._run_of(call).machine.policy_version)

    def _sample(self, call: Call[Any]) -> Completions:
        body = body_of(call, SampleBody)
        future = self._desk.sample(body, call.pin)
        try:
            return to_completions(body, future.result(_limit_s(call)))
        except TimeoutError as error:
            raise _too_late(call) from error
        finally:
            future.cancel()

    async def _sample_async(self, call: Call[Any]) -> Completions:
        body = body_of(call, SampleBody)
        future = await asyncio.to_thread(self._desk.sample, body, call.pin)
        try:
            async with asyncio.timeout(_limit_s(call)):
                return to_completions(body, await asyncio.wrap_future(future))
        except TimeoutError as error:
            raise _too_late(call) from error
        finally:
            future.cancel()

    def _list_models(self, call: Call[Any]) -> ModelListing:
        base_model = self._desk.base_model(call.pin)
        cards = [ModelCard(id=base_model)]
        weights = self._live.get(call.pin.run_id or "")
        if weights.adapter_id is not None:
            cards.append(ModelCard(id=weights.adapter_id, parent=base_model))
        return ModelListing(data=cards)

    def _sampler_version(self, call: Call[Any]) -> PolicyVersion:
        self._desk.base_model(call.pin)
        return PolicyVersion(policy_version=self._live.get(call.pin.run_id or "").version)


def _limit_s(call: Call[Any]) -> float:
    return _SAMPLE_LIMIT_S if call.timeout_s is None else call.timeout_s


def _too_late(call: Call[Any]) -> SampleTimeoutError:
    return SampleTimeoutError(
        f"the sample was not finished within {_limit_s(call):g} s", timeout=_limit_s(call)
    )
