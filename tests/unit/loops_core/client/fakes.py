"""A small service in memory, and a clock that jumps: what the client's tests run against."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar, cast

from loops_core.client.drivers import Driver
from loops_core.client.link import TrainerLink, TrainerSettings
from loops_core.client.training import TrainingClient
from loops_core.clock import Clock, SystemClock
from loops_core.errors import UnknownRequestError, UsageError
from loops_core.hooks import RunEvent
from loops_core.inprocess import copy_linked_file
from loops_core.plugins import Plugins
from loops_core.protocols import BodyLimits
from loops_core.types.base import WireModel
from loops_core.types.datum import Datum, ModelInput
from loops_core.types.deployment import Empty
from loops_core.types.operation import Accepted, CancelReply, ErrorBody, OperationStatus
from loops_core.types.routes import Call
from loops_core.types.tensor import TensorData
from loops_core.types.training import ForwardBackwardOutput, WandbConfig

ReplyT = TypeVar("ReplyT", bound=WireModel)
Answer = Callable[[Call[WireModel]], WireModel]

PENDING = OperationStatus(status="pending")


def done(result: WireModel) -> OperationStatus:
    return OperationStatus(status="done", result=result)


def failed(message: str, error_class: str = "ValueError") -> OperationStatus:
    fields = {"error_class": error_class}
    body = ErrorBody(code="RemoteOpError", message=message, fields={**fields})
    return OperationStatus(status="error", error=message, error_class=error_class, error_body=body)


def make_datum(tokens: list[int] | None = None) -> Datum:
    ids = [1, 2, 3] if tokens is None else tokens
    targets = TensorData(data=ids, dtype="int64", shape=[len(ids)])
    return Datum(model_input=ModelInput.from_ints(ids), loss_fn_inputs={"target_tokens": targets})


class JumpingClock:
    """A clock that stands still but for sleeps, which take no time."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.naps: list[float] = []

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.time += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


class FakeService:
    """A transport whose far end is a table; operations are settled when a test says so.

    A poll of an unsettled operation is held by letting the clock jump over the hold; or until it is
    settled (`holds="really"`), which tests with threads need; or `"never"`.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        holds: Literal["by jumping", "really", "never"] = "by jumping",
    ) -> None:
        self.clock = clock or JumpingClock()
        self.limits = BodyLimits()
        self.repeats_creates = True
        self.heartbeat: float | None = None
        self.calls: list[Call[WireModel]] = []
        self.answers: dict[str, Answer] = {}
        self.failures: dict[str, list[BaseException]] = {}
        self.statuses: dict[str, OperationStatus] = {}
        self.keys: dict[str, str] = {}
        self.automatic: Callable[[Call[WireModel]], OperationStatus] = lambda _: PENDING
        self.in_flight: dict[str, int] = {}
        self.most_in_flight = 0
        self.num_polls = 0
        self.closed = False
        self.on_submit: Callable[[], None] = lambda: None
        self.submits_pass = asyncio.Event()
        self.submits_pass.set()
        self._holds = holds
        self._changed = threading.Condition()

    def body_limits(self, base_url: str | None) -> BodyLimits:
        return self.limits

    def heartbeat_s(self, base_url: str | None) -> float | None:
        return self.heartbeat

    def send(self, call: Call[ReplyT]) -> ReplyT:
        self._arrive(call)
        if call.route.name != "retrieve":
            return cast("ReplyT", self._answer(cast("Call[WireModel]", call)))
        with self._polling(call) as operation_id, self._changed:
            if self._holds == "really" and call.hold_s > 0:
                self._changed.wait_for(lambda: self._settled(operation_id), call.hold_s)
            return cast("ReplyT", self._status(operation_id, call.hold_s))

    async def send_async(self, call: Call[ReplyT]) -> ReplyT:
        self._arrive(call)
        if call.route.name != "retrieve":
            if call.route.reply_type is Accepted:
                await self.submits_pass.wait()
            return cast("ReplyT", self._answer(cast("Call[WireModel]", call)))
        with self._polling(call) as operation_id:
            loop = asyncio.get_running_loop()
            deadline = loop.time() + (call.hold_s if self._holds == "really" else 0)
            while not self._settled(operation_id) and loop.time() < deadline:  # noqa: ASYNC110 - a thread may settle it
                await asyncio.sleep(0.001)
            with self._changed:
                return cast("ReplyT", self._status(operation_id, call.hold_s))

    def download(self, url: str, target: Path, *, size_bytes: int) -> None:
        copy_linked_file(url, target, size_bytes=size_bytes)

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True

    def settle(self, operation_id: str, status: OperationStatus) -> None:
        with self._changed:
            self.statuses[operation_id] = status
            self._changed.notify_all()

    def sent(self, route: str) -> list[Call[WireModel]]:
        return [call for call in self.calls if call.route.name == route]

    def _arrive(self, call: Call[ReplyT]) -> None:
        if self.closed:
            raise UsageError("the transport is closed")
        with self._changed:
            self.calls.append(cast("Call[WireModel]", call))
            pending = self.failures.get(call.route.name)
            if pending:
                raise pending.pop(0)

    def _answer(self, call: Call[WireModel]) -> WireModel:
        answer = self.answers.get(call.route.name)
        if answer is not None:
            return answer(call)
        if call.route.name == "cancel":
            return CancelReply(cancelled=self._cancel(call.path_args["operation_id"]))
        if call.route.reply_type is not Accepted:
            return Empty()
        self.on_submit()
        with self._changed:
            key = call.idempotency_key or ""
            operation_id = self.keys.setdefault(key, f"op{len(self.keys)}")
            self.statuses.setdefault(operation_id, self.automatic(call))
            return Accepted(operation_id=operation_id)

    def _cancel(self, operation_id: str) -> bool:
        if self._settled(operation_id):
            return False
        body = ErrorBody(code="OperationCancelledError", message="cancelled")
        self.settle(operation_id, OperationStatus(status="error", error_body=body))
        return True

    def _polling(self, call: Call[ReplyT]) -> _Poll:
        return _Poll(self, call.path_args["operation_id"])

    def _settled(self, operation_id: str) -> bool:
        return self.statuses.get(operation_id, PENDING).status != "pending"

    def _status(self, operation_id: str, hold_s: float) -> OperationStatus:
        if operation_id not in self.statuses:
            raise UnknownRequestError(f"operation {operation_id!r} is not known")
        if not self._settled(operation_id) and self._holds == "by jumping":
            self.clock.sleep(hold_s)
        return self.statuses[operation_id]


class _Poll:
    """Counts the polls of one operation that are under way at once."""

    def __init__(self, service: FakeService, operation_id: str) -> None:
        self._service = service
        self._operation_id = operation_id

    def __enter__(self) -> str:
        service = self._service
        service.num_polls += 1
        count = service.in_flight.get(self._operation_id, 0) + 1
        service.in_flight[self._operation_id] = count
        service.most_in_flight = max(service.most_in_flight, count)
        return self._operation_id

    def __exit__(self, *_: object) -> None:
        self._service.in_flight[self._operation_id] -= 1


def make_driver(service: FakeService) -> Driver:
    return Driver(service, service.clock, random.Random(0))


def make_link(
    service: FakeService,
    *,
    observers: list[object] | None = None,
    wandb_config: WandbConfig | None = None,
) -> TrainerLink:
    run = RunEvent(
        run_id="r1",
        client_id="c1",
        base_model="tiny",
        lora_rank=4,
        wandb_config=wandb_config,
    )
    settings = TrainerSettings(
        base_url="fake:/runs/r1", service_url="fake:", session_id="s1", max_seq_len=64
    )
    return TrainerLink(make_driver(service), plugins_with(observers or []), run, settings)


def make_client(service: FakeService, *, observers: list[object] | None = None) -> TrainingClient:
    return TrainingClient(make_link(service, observers=observers))


def plugins_with(extra: list[object]) -> Plugins:
    """Return a plugin set of these alone."""
    import pluggy

    from loops_core import hooks

    manager = pluggy.PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks)
    for plugin in extra:
        manager.register(plugin)
    return Plugins(manager)


def output(loss: float = 1.0, **metrics: float) -> ForwardBackwardOutput:
    return ForwardBackwardOutput(loss=loss, metrics=metrics)


def threaded_service() -> FakeService:
    """Return a service that really holds its polls, for tests with threads."""
    return FakeService(SystemClock(), holds="really")


def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; fails after ten seconds."""
    pause = threading.Event()
    for _ in range(10_000):
        if condition():
            return
        pause.wait(0.001)
    raise AssertionError("the condition never held")


async def until_async(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; fails after ten seconds."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("the condition never held")
