"""The trainers' desk: submits, polls and questions to the trainer of one run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from loops_core.clock import Clock
from loops_core.errors import UsageError
from loops_core.types import routes
from loops_core.types.base import WireModel
from loops_core.types.deployment import Empty, PolicyVersion
from loops_core.types.operation import (
    OPERATIONS,
    Accepted,
    CancelReply,
    ForwardBody,
    InitTrainerServerBody,
    LoadStateBody,
    OperationBody,
    OperationKind,
    OperationStatus,
    PollBody,
    PollReply,
)
from loops_core.types.routes import Call
from loops_core.worker.control import body_of
from loops_core.worker.entries import is_small
from loops_core.worker.parts import PartsDesk
from loops_core.worker.queue_settings import QueueSettings
from loops_core.worker.runs import OpenRun, Runs
from loops_core.worker.validation import check_operation

Handler = Callable[[Call[Any], str], WireModel]


@dataclass(frozen=True, slots=True)
class _Submit:
    """A checked operation on its way to its run's queue; `batch_key` where it came in parts."""

    run: OpenRun
    kind: OperationKind
    body: OperationBody
    batch_key: str | None = None


@final
class TrainerDesk:
    """Answers the calls of trainers, on a thread or on an event loop."""

    def __init__(
        self, runs: Runs, clock: Clock, *, local_paths: bool, queue: QueueSettings
    ) -> None:
        """Answer for the runs that are open, or that can be opened.

        Args:
            runs: where the trainers are.
            clock: where time comes from.
            local_paths: whether a load may read a directory of this machine.
            queue: the bounds of a run's queue; the parts of batches get as many bytes again.
        """
        self._runs = runs
        self._local_paths = local_paths
        self._submits = frozenset(route.name for route in routes.SUBMIT.values())
        self._parts = PartsDesk(clock, max_bytes=queue.max_queued_bytes)

    def handlers(self) -> dict[str, Handler]:
        """Return what answers each call on a thread."""
        return {
            **{route.name: self._submit for route in routes.SUBMIT.values()},
            routes.RETRIEVE.name: self._retrieve,
            routes.POLL.name: self._poll,
            routes.CANCEL.name: self._cancel,
            routes.HEALTH.name: self._health,
            routes.POLICY_VERSION.name: self._policy_version,
        }

    async def answer_async(self, call: Call[Any], owner: str) -> WireModel | None:
        """Answer a call whose run is open, without blocking; None = a thread has to."""
        if call.route.name in self._submits:
            return await self._submit_async(call, owner)
        match call.route.name:
            case routes.RETRIEVE.name:
                queue = self._run_of(call, owner).queue
                return await queue.wait_async(call.path_args["operation_id"], hold_s=call.hold_s)
            case routes.POLL.name:
                queue = self._run_of(call, owner).queue
                asked = body_of(call, PollBody).operation_ids
                return PollReply(operations=await queue.wait_any_async(asked, hold_s=call.hold_s))
            case routes.HEALTH.name:
                return self._health(call, owner)
            case routes.POLICY_VERSION.name:
                return self._policy_version(call, owner)
            case _:
                return None

    def _run_of(self, call: Call[Any], owner: str) -> OpenRun:
        if call.run_id is None:
            raise UsageError(f"{call.route.name} needs a run_id", field="run_id")
        return self._runs.get(call.run_id, owner=owner)

    def _submit(self, call: Call[Any], owner: str) -> Accepted:
        submit = self._prepare(call, owner)
        if isinstance(submit, Accepted):
            return submit
        operation_id = submit.run.queue.submit(
            submit.kind, submit.body, idempotency_key=call.idempotency_key
        )
        return self._accept(submit, operation_id)

    async def _submit_async(self, call: Call[Any], owner: str) -> Accepted:
        if is_small(call.body):
            submit = self._prepare(call, owner)
        else:
            submit = await asyncio.to_thread(self._prepare, call, owner)
        if isinstance(submit, Accepted):
            return submit
        operation_id = await submit.run.queue.submit_async(
            submit.kind, submit.body, idempotency_key=call.idempotency_key
        )
        return self._accept(submit, operation_id)

    def _prepare(self, call: Call[Any], owner: str) -> _Submit | Accepted:
        """Return what is to be submitted, checked; or the answer to a part of a batch."""
        run = self._run_of(call, owner)
        kind = OperationKind(call.route.name)
        try:
            body = self._checked(call, run)
        except UsageError:
            if call.part is not None:  # one wrong part, and nothing of the batch is kept
                self._parts.discard(run.record.id, _key_of(call))
            raise
        if call.part is None:
            return _Submit(run, kind, body)
        if not isinstance(body, ForwardBody):
            raise UsageError(f"{kind} has no data that could come in parts", field="part")
        key = _key_of(call)
        missing = self._parts.add(run.record.id, key, call.part, body)
        if missing:
            return Accepted(operation_id=key, missing_parts=missing)
        return _Submit(run, kind, self._parts.join(run.record.id, key), batch_key=key)

    def _accept(self, submit: _Submit, operation_id: str) -> Accepted:
        """Return the answer once the operation is in the log; the batch's parts are let go."""
        if submit.batch_key is not None:
            self._parts.discard(submit.run.record.id, submit.batch_key)
        return Accepted(operation_id=operation_id)

    def _checked(self, call: Call[Any], run: OpenRun) -> OperationBody:
        """Return the call's body, which the run's trainer can execute."""
        kind = OperationKind(call.route.name)
        body = body_of(call, OPERATIONS[kind].body_type)
        if body.run_id not in (None, run.record.id):
            raise UsageError(
                f"run_id {body.run_id!r} in the body is not the trainer's run {run.record.id!r}",
                field="run_id",
            )
        if isinstance(body, InitTrainerServerBody):
            _check_base_model(body.base_model, run)
        if isinstance(body, LoadStateBody) and not self._local_paths:
            _refuse_local(body.path)
        check_operation(body, run.description)
        return body

    def _retrieve(self, call: Call[Any], owner: str) -> OperationStatus:
        queue = self._run_of(call, owner).queue
        return queue.wait(call.path_args["operation_id"], hold_s=call.hold_s)

    def _poll(self, call: Call[Any], owner: str) -> PollReply:
        queue = self._run_of(call, owner).queue
        body = body_of(call, PollBody)
        return PollReply(operations=queue.wait_any(body.operation_ids, hold_s=call.hold_s))

    def _cancel(self, call: Call[Any], owner: str) -> CancelReply:
        queue = self._run_of(call, owner).queue
        return CancelReply(cancelled=queue.cancel(call.path_args["operation_id"]))

    def _health(self, call: Call[Any], owner: str) -> Empty:
        if call.run_id is None:
            return Empty()
        run = self._run_of(call, owner)
        run.queue.check_running()
        asked = call.query.get("base_model")
        _check_base_model(None if asked is None else str(asked), run)
        return Empty()

    def _policy_version(self, call: Call[Any], owner: str) -> PolicyVersion:
        return PolicyVersion(policy_version=self._run_of(call, owner).machine.policy_version)


def _key_of(call: Call[Any]) -> str:
    if call.idempotency_key is None:
        raise UsageError(
            "a batch in parts needs an idempotency_key, the same for all of them",
            field="idempotency_key",
        )
    return call.idempotency_key


def _check_base_model(asked: str | None, run: OpenRun) -> None:
    """Refuse a model that is not the one that the run's trainer has."""
    if asked not in (None, run.record.base_model):
        raise UsageError(
            f"base_model {asked!r} is not this trainer's: it has {run.record.base_model!r}",
            field="base_model",
        )


def _refuse_local(path: str) -> None:
    if not path.startswith("bt://"):
        raise UsageError(
            f"path {path!r} is not a checkpoint address: this service reads no directories of its "
            "machine; expected bt://loops:<run_id>/weights/<name>",
            field="path",
        )
