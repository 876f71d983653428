"""The network of a world: carries calls to the worker, with latency and the faults of a plan."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from pathlib import Path
from typing import Any, Final, TypeVar, final

from loops_core.errors import (
    BusyError,
    LoopsError,
    ServerShutdownError,
    UnreachableError,
    UsageError,
)
from loops_core.inprocess import copy_linked_file
from loops_core.protocols import BodyLimits
from loops_core.types.base import WireModel
from loops_core.types.operation import OperationStatus, SaveWeightsForSamplerBody
from loops_core.types.routes import RETRIEVE, Call
from loops_mock.simulation.clock import WorldClock
from loops_mock.simulation.durations import Durations
from loops_mock.simulation.faults import (
    Delay,
    DiskFull,
    DropRequest,
    Duplicate,
    EvictResults,
    Fault,
    JumpClock,
    LoseAnswer,
    PlanRun,
    Preempt,
    Reorder,
    Restart,
    SlowSampler,
    Status,
    Truncate,
    WithholdVersion,
)
from loops_mock.simulation.turner import WorldTurner
from loops_mock.simulation.worker import WorldWorker

ReplyT = TypeVar("ReplyT", bound=WireModel)

_ANSWERS: Final = (DropRequest, LoseAnswer, Status, Truncate)
"""Faults that say what the answer is: the first of several counts."""

_UNBOUNDED_S: Final = 24 * 3600.0


@final
class Network:
    """Brings calls to the worker and answers back.

    Attributes:
        plan: the faults, and which of them were met.
    """

    def __init__(
        self,
        worker: WorldWorker,
        plan: PlanRun,
        *,
        clock: WorldClock,
        turner: WorldTurner,
        durations: Durations,
        rng: random.Random,
    ) -> None:
        """Connect clients with the worker."""
        self.plan = plan
        self.clock = clock
        self._worker = worker
        self._turner = turner
        self._trace = turner.trace
        self._durations = durations
        self._rng = rng
        self._num_calls = 0
        self._overtaken = asyncio.Event()
        self._aside: set[asyncio.Task[object]] = set()

    async def carry(self, call: Call[ReplyT]) -> ReplyT:
        """Return the reply; raises what a transport raises."""
        self._num_calls += 1
        number, name, clock = self._num_calls, call.route.name, self.clock
        self._trace.add(
            clock.monotonic(), "send", name, number, call.timeout_s, call.idempotency_key
        )
        try:
            faults = self.plan.meet(name)
            if not faults and (call.timeout_s is None or call.timeout_s > call.hold_s):
                reply = await self._exchange(call)
            else:
                reply = await self._in_time(call, faults)
        except LoopsError as error:
            self._trace.add(clock.monotonic(), "reply", name, number, type(error).__name__)
            raise
        self._trace.add(clock.monotonic(), "reply", name, number)
        return reply

    async def _exchange(self, call: Call[ReplyT]) -> ReplyT:
        """Carry a call there, and its answer back."""
        sleep, durations = self._turner.loop.sleep, self._durations
        await sleep(durations.draw(durations.latency_s, self._rng))
        try:
            reply = await self._serve(call)
        except LoopsError:
            await sleep(durations.draw(durations.latency_s, self._rng))
            raise
        await sleep(durations.draw(durations.latency_s, self._rng))
        return reply

    async def _in_time(self, call: Call[ReplyT], faults: tuple[Fault, ...]) -> ReplyT:
        limit_s = _UNBOUNDED_S if call.timeout_s is None else call.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._faulty(call, faults)
        except TimeoutError:
            message = f"{call.route.name} was not answered within {limit_s:g} s"
            raise UnreachableError(message, run_id=call.run_id) from None

    async def _faulty(self, call: Call[ReplyT], faults: tuple[Fault, ...]) -> ReplyT:
        """Carry a call that meets faults."""
        self._overtaken.set()
        for fault in faults:
            self._trace.add(self.clock.monotonic(), "fault", type(fault).__name__, call.route.name)
            await self._before(fault, call)
        answers = (fault for fault in faults if isinstance(fault, _ANSWERS))
        match next(answers, None):
            case DropRequest(seconds=seconds):
                await self.clock.sleep_async(seconds)
                raise _broken("before the request had arrived")
            case LoseAnswer(seconds=seconds):
                await self._reach(call)
                await self.clock.sleep_async(seconds)
                raise _broken("before the answer had arrived")
            case Truncate():
                await self._exchange(call)
                raise _broken("in the middle of the answer")
            case Status() as status:
                await (self._reach(call) if status.reached else self._travel())
                await self._travel()
                return _said_by(status, call)
            case _:
                return await self._exchange(call)

    async def _before(self, fault: Fault, call: Call[Any]) -> None:
        """Do what happens before the call arrives, to it and to the world."""
        match fault:
            case Delay():
                await self.clock.sleep_async(fault.seconds)
            case Reorder():
                await self._wait_for_next(fault.seconds)
            case Duplicate():
                self._start(self._again(call, fault.seconds))
            case Restart():
                self._turner.loop.call_later(fault.after_s, lambda: self._worker.die(down_s=0.0))
            case Preempt(after_s=after_s, seconds=seconds):
                self._turner.loop.call_later(after_s, lambda: self._worker.die(down_s=seconds))
            case EvictResults():
                self._worker.forget_results()
            case SlowSampler():
                self._turner.slow_down(fault.factor, seconds=fault.seconds)
            case WithholdVersion():
                if isinstance(call.body, SaveWeightsForSamplerBody):
                    self._worker.withhold(call.run_id or "", call.body.name)
            case DiskFull():
                self._worker.store.fill_up(seconds=fault.seconds)
            case JumpClock():
                self.clock.jump(fault.seconds)
            case _:
                pass

    async def _serve(self, call: Call[ReplyT]) -> ReplyT:
        """Return the service's reply, unless the worker dies in the meantime."""
        deaths = self._worker.deaths
        try:
            return await self._worker.service.handle_async(call)
        except ServerShutdownError as error:
            if self._worker.deaths == deaths:
                raise
            raise _broken("when the worker died") from error

    async def _reach(self, call: Call[Any]) -> None:
        """Let the service answer a call, whatever it says."""
        await self._travel()
        with contextlib.suppress(LoopsError):
            await self._serve(call)

    async def _again(self, call: Call[Any], seconds: float) -> None:
        await self.clock.sleep_async(seconds)
        await self._reach(call)

    def _start(self, work: Any) -> None:
        task = self._turner.loop.create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def _travel(self) -> None:
        await self.clock.sleep_async(self._durations.draw(self._durations.latency_s, self._rng))

    async def _wait_for_next(self, seconds: float) -> None:
        self._overtaken.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._overtaken.wait()
        except TimeoutError:
            return
        await self._travel()  # the one that overtook is on its way
        await self._travel()


@final
class WorldTransport:
    """A `Transport` over a world's network; each client has its own."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._is_closed = False

    def body_limits(self, base_url: str | None) -> BodyLimits:
        """Return no bound."""
        del base_url
        return BodyLimits()

    @property
    def repeats_creates(self) -> bool:
        """Return True: the worker keeps the keys of creates."""
        return True

    def heartbeat_s(self, base_url: str | None) -> float | None:
        """Return None: trainers of a world wait for ever."""
        del base_url
        return None

    def send(self, call: Call[ReplyT]) -> ReplyT:
        """Return the reply; time passes until then."""
        return self._network.clock.drive(self.send_async(call))

    async def send_async(self, call: Call[ReplyT]) -> ReplyT:
        """Return the reply."""
        if self._is_closed:
            raise UsageError("the client is closed: open a new ServiceClient")
        return await self._network.carry(call)

    def download(self, url: str, target: Path, *, size_bytes: int) -> None:
        """Copy the file that a link names; takes no time."""
        copy_linked_file(url, target, size_bytes=size_bytes)

    def close(self) -> None:
        """Take no more calls."""
        self._is_closed = True

    async def aclose(self) -> None:
        """Take no more calls."""
        self.close()


def _broken(when: str) -> UnreachableError:
    return UnreachableError(f"the connection broke {when}")


def _said_by(status: Status, call: Call[ReplyT]) -> ReplyT:
    """Return or raise what a status means, as HTTP clients read it."""
    code, pause_s = status.code, status.retry_after_s
    if code == 408 and pause_s is None and call.route.name == RETRIEVE.name:
        return OperationStatus(status="pending")  # type: ignore[return-value]  # the route's own reply
    message = f"the service answered {code}: planned"
    if code in (408, 429) or pause_s is not None:
        raise BusyError(message, retry_after_s=None if pause_s is None else math.ceil(pause_s))
    raise ServerShutdownError(message) if code == 503 else UnreachableError(message)
