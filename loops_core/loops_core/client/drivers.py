"""Flows, and what runs them: methods written once, driven by a thread or by an event loop.

A flow is a generator. It yields instructions (`Send`, `Sleep`, `Wait`, `Compute`), is sent what
came of them, and returns the method's value. Errors of the tree are thrown into it; anything else,
such as a `KeyboardInterrupt` or the cancellation of a task, ends it, and its `finally` blocks run.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar, final

from loops_core.client import polling
from loops_core.clock import Clock, DrivingClock
from loops_core.errors import LoopsError, TransportError, UsageError
from loops_core.protocols import Transport
from loops_core.types.base import WireModel
from loops_core.types.routes import Call

_log = logging.getLogger(__name__)

ReplyT = TypeVar("ReplyT", bound=WireModel)
ResultT = TypeVar("ResultT")
FunctionT = TypeVar("FunctionT", bound=Callable[..., object])

_LONGEST_WAIT_S: Final = 60.0
"""A waiter looks up from its signal at least this often, whatever it waits for."""


@final
class Signal:
    """Something that happens once and that threads and event loops can wait for.

    Attributes:
        loop: the event loop that has to turn for it to happen; None where a plain thread makes it
            happen.
    """

    __slots__ = ("_has_happened", "_listeners", "_lock", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = loop
        self._lock = threading.Lock()
        self._has_happened = False
        self._listeners: list[Callable[[], object]] = []

    def set(self) -> None:
        """Wake everybody who waits; a second time does nothing."""
        with self._lock:
            self._has_happened = True
            listeners, self._listeners = self._listeners, []
        for tell in listeners:
            _call(tell)

    def listen(self, tell: Callable[[], object]) -> None:
        """Call `tell` when it happens, on the thread that sets it; at once if it has happened.

        What it raises is logged: one listener's failure is neither the others' nor the setter's.
        """
        with self._lock:
            if not self._has_happened:
                self._listeners.append(tell)
                return
        _call(tell)

    def wait(self, timeout_s: float) -> None:
        """Return when it has happened or the time is over, whichever is first."""
        happened = threading.Event()
        with self._listening(happened.set):
            happened.wait(timeout_s)

    async def wait_async(self, timeout_s: float) -> None:
        """Do what `wait` does without blocking the event loop."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        def wake_from_anywhere() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(wake)

        with self._listening(wake_from_anywhere):
            await asyncio.wait([woken], timeout=timeout_s)

    @contextlib.contextmanager
    def _listening(self, tell: Callable[[], object]) -> Generator[None]:
        """Have `tell` called if it happens while the block runs."""
        self.listen(tell)
        try:
            yield
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._listeners.remove(tell)


@final
@dataclass(frozen=True, slots=True)
class Send(Generic[ReplyT]):
    """Asks for the reply to a call."""

    call: Call[ReplyT]


@final
@dataclass(frozen=True, slots=True)
class Sleep:
    """Asks to be continued after a time."""

    seconds: float


@final
@dataclass(frozen=True, slots=True)
class Wait:
    """Asks to be continued when a signal has happened or the time is over.

    Attributes:
        signal: what to wait for.
        timeout_s: at most how long.
        loops: further event loops that have to turn for the signal to happen, besides the signal's.
    """

    signal: Signal
    timeout_s: float
    loops: frozenset[asyncio.AbstractEventLoop] = frozenset()


@final
@dataclass(frozen=True, slots=True)
class Compute:
    """Asks for the value of a function that may take long; whatever it raises ends the flow."""

    function: Callable[[], object]


Instruction: TypeAlias = Send[Any] | Sleep | Wait | Compute
Flow: TypeAlias = Generator[Instruction, Any, ResultT]
"""A method's body, to be driven."""


def _call(tell: Callable[[], object]) -> None:
    try:
        tell()
    except Exception:  # noqa: BLE001  # a seam: whatever somebody's callback raises is logged
        _log.exception("a callback failed")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs on this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def send(call: Call[ReplyT]) -> Flow[ReplyT]:
    """Return the reply to the call, which is sent once."""
    reply: ReplyT = yield Send(call)
    return reply


def compute(function: Callable[[], ResultT]) -> Flow[ResultT]:
    """Return the function's value; computed on another thread where an event loop waits for it."""
    value: ResultT = yield Compute(function)
    return value


def drive(flow: Flow[ResultT], transport: Transport, clock: Clock) -> ResultT:
    """Return the flow's value; blocks the calling thread.

    Raises:
        UsageError: the flow would wait for an event loop that runs on this very thread.
    """
    try:
        instruction = next(flow)
        while True:
            try:
                reply = _perform(instruction, transport, clock)
            except LoopsError as error:
                instruction = flow.throw(error)
            else:
                instruction = flow.send(reply)
    except StopIteration as stop:
        value: ResultT = stop.value
        return value
    finally:
        flow.close()


async def drive_async(flow: Flow[ResultT], transport: Transport, clock: Clock) -> ResultT:
    """Return the flow's value; never blocks the event loop."""
    try:
        instruction = next(flow)
        while True:
            try:
                reply = await _perform_async(instruction, transport, clock)
            except LoopsError as error:
                instruction = flow.throw(error)
            else:
                instruction = flow.send(reply)
    except StopIteration as stop:
        value: ResultT = stop.value
        return value
    finally:
        flow.close()


def _perform(instruction: Instruction, transport: Transport, clock: Clock) -> object:
    match instruction:
        case Send(call):
            return transport.send(call)
        case Sleep(seconds):
            clock.sleep(seconds)
        case Wait(signal, timeout_s, loops):
            _check_thread_is_free(loops | {signal.loop})
            signal.wait(min(timeout_s, _LONGEST_WAIT_S))
        case Compute(function):
            return function()
    return None


async def _perform_async(instruction: Instruction, transport: Transport, clock: Clock) -> object:
    match instruction:
        case Send(call):
            return await transport.send_async(call)
        case Sleep(seconds):
            await clock.sleep_async(seconds)
        case Wait(signal, timeout_s, _):
            await signal.wait_async(min(timeout_s, _LONGEST_WAIT_S))
        case Compute(function):
            return await asyncio.to_thread(function)
    return None


def _check_thread_is_free(loops: frozenset[asyncio.AbstractEventLoop | None]) -> None:
    here = running_loop()
    if here is not None and here in loops:
        raise UsageError(
            "this blocking call would wait for ever: it is behind a call of the event loop that "
            "runs on the same thread; inside an event loop use the *_async form or await"
        )


@final
class Driver:
    """Runs flows over one transport, with one clock and one source of chance.

    Attributes:
        transport: where calls go.
        clock: where time comes from.
        random: spreads retries of many clients over time.
    """

    __slots__ = ("_driving", "clock", "random", "transport")

    def __init__(self, transport: Transport, clock: Clock, rng: random.Random) -> None:
        self.transport = transport
        self.clock = clock
        self.random = rng
        self._driving = clock if isinstance(clock, DrivingClock) else None

    def run(self, flow: Flow[ResultT]) -> ResultT:
        """Return the flow's value; blocks the calling thread."""
        if self._driving is None:
            return drive(flow, self.transport, self.clock)
        return self._driving.drive(self.run_async(flow))

    async def run_async(self, flow: Flow[ResultT]) -> ResultT:
        """Return the flow's value; never blocks the event loop."""
        return await drive_async(flow, self.transport, self.clock)

    def run_aside(self, flow: Flow[object], *, name: str) -> None:
        """Run the flow beside its caller, on a daemon thread; what it raises is not caught."""
        if self._driving is not None:
            self._driving.spawn(self.run_async(flow), name=name)
            return
        threading.Thread(target=self.run, args=(flow,), name=name, daemon=True).start()

    def persist(self, call: Call[ReplyT], *, budget_s: float) -> Flow[ReplyT]:
        """Return the reply to the call, repeated as it is while its failures are retryable.

        Each attempt may take what is left of the budget.

        Raises:
            TransportError: no attempt was answered within `budget_s` seconds; it says how many
                there were and what the last one failed with.
        """
        deadline = self.clock.monotonic() + budget_s
        attempts = 0
        while True:
            left_s = max(0.0, deadline - self.clock.monotonic())
            try:
                return (yield from send(_within(call, left_s if attempts else budget_s)))
            except TransportError as error:
                attempts += 1
                pause = polling.pause_after_failure(
                    error,
                    attempts=attempts,
                    left_s=deadline - self.clock.monotonic(),
                    jitter=self.random.random(),
                )
                if pause is None:
                    raise _given_up(error, call, attempts, budget_s) from error
            yield Sleep(pause)


def _within(call: Call[ReplyT], left_s: float) -> Call[ReplyT]:
    """Return the call that may take so long and no longer."""
    if call.timeout_s is not None and call.timeout_s <= left_s:
        return call
    return dataclasses.replace(call, timeout_s=left_s)


def _given_up(
    error: TransportError, call: Call[Any], attempts: int, budget_s: float
) -> TransportError:
    """Return the last attempt's error, which says what was tried."""
    told = error.copy()
    times = "once" if attempts == 1 else f"{attempts} times"
    told.message = f"{call.route.name} was tried {times} within {budget_s:g} s: {error.message}"
    return told


def twin_of(sync: Callable[..., object]) -> Callable[[FunctionT], FunctionT]:
    """Return a decorator that gives the `*_async` form of a method the method's own docstring."""

    def decorate(function: FunctionT) -> FunctionT:
        function.__doc__ = sync.__doc__
        return function

    return decorate
