"""An event loop on virtual time: where nothing is ready, the next timer's time is now."""

from __future__ import annotations

import asyncio
import heapq
import logging
import threading
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack, final

from loops_core.errors import UsageError

_log = logging.getLogger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_PRUNE_FROM: Final = 256


@final
class Nap:
    """A wait for a time, to be awaited once by a task: its timer is the task's own next step.

    It does for a task what a future and the timer that settles it would do, at half the price.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_is_cancelled",
        "_loop",
        "_seconds",
        "_step",
        "_timer",
    )

    def __init__(self, loop: VirtualLoop, seconds: float) -> None:
        self._asyncio_future_blocking = False  # the name by which tasks know what they may await
        self._loop = loop
        self._seconds = seconds
        self._is_cancelled = False
        self._timer: asyncio.TimerHandle | None = None
        self._step: Callable[[Nap], object] | None = None

    def __await__(self) -> Generator[Nap, None, None]:
        """Let the task that awaits wait."""
        if self._loop.skip(self._seconds):
            return
        self._asyncio_future_blocking = True
        yield self
        self.result()

    def get_loop(self) -> VirtualLoop:
        """Return the loop whose time is waited for."""
        return self._loop

    def add_done_callback(
        self, step: Callable[[Nap], object], *, context: Context | None = None
    ) -> None:
        """Call the task's step when the time has come."""
        self._step = step
        self._timer = self._loop.call_later(self._seconds, step, self, context=context)

    def cancel(self, msg: object = None) -> bool:
        """Let the task go on at once, cancelled."""
        del msg
        if self._is_cancelled or self._timer is None or self._step is None:
            return False
        self._is_cancelled = True
        self._timer.cancel()
        self._loop.call_soon(self._step, self)
        return True

    def result(self) -> None:
        """Return, or raise where the wait was cancelled."""
        if self._is_cancelled:
            raise asyncio.CancelledError


@final
class VirtualLoop(asyncio.AbstractEventLoop):
    """A loop without sockets, threads or waits; all of it happens on the thread that made it.

    Callbacks run in the order in which they were scheduled, timers in the order of their times, and
    those of one time in the order of their making: a run depends on nothing but the program. What
    would run in an executor runs at once. When nothing is ready and no timer is left, the program
    waits for what will never come, and that is an error.
    """

    def __init__(self) -> None:
        """Start at time 0."""
        self._now_s = 0.0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._num_timers = 0
        self._num_cancelled = 0
        self._thread = threading.get_ident()
        self._is_running = False
        self._is_stopping = False
        self._is_closed = False
        self._failure: BaseException | None = None
        self._exception_handler: Callable[[Any, dict[str, Any]], object] | None = None

    def time(self) -> float:
        """Return the seconds that have passed."""
        return self._now_s

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Run the callback behind what is ready."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Do what `call_soon` does, for callbacks that might come from other threads.

        Raises:
            UsageError: this one does: a world has one thread.
        """
        self.check_thread()
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run the callback after so many seconds."""
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run the callback at that time."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._num_timers += 1
        heapq.heappush(self._timers, (when, self._num_timers, handle))
        handle._scheduled = True  # noqa: SLF001  # so that it tells of its cancelling
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Hear of a cancelled timer; they are swept out once they are most of all."""
        del handle
        self._num_cancelled += 1
        if self._num_cancelled > max(_PRUNE_FROM, len(self._timers) // 2):
            self._timers = [timer for timer in self._timers if not timer[2].cancelled()]
            heapq.heapify(self._timers)
            self._num_cancelled = 0

    def skip(self, seconds: float) -> bool:
        """Let so much time pass at once, if nothing would happen in it; return whether it has.

        Whoever asks goes on as it would after a timer of that length, and saves the timer.
        """
        when_s = self._now_s + seconds
        if self._ready or (self._timers and self._timers[0][0] <= when_s):
            return False
        self._now_s = when_s
        return True

    def sleep(self, seconds: float) -> Nap:
        """Return what a task awaits to go on after so many seconds, as with `asyncio.sleep`."""
        return Nap(self, seconds)

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
        **_: object,
    ) -> asyncio.Task[T]:
        """Return a task that begins behind what is ready."""
        text = None if name is None else str(name)
        return asyncio.Task(coro, loop=self, name=text, context=context)

    def run_in_executor(
        self, executor: Any, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Call the function at once, and return a future that has settled."""
        del executor
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # whatever it raises is the future's
            future.set_exception(error)
        return future

    def run_until_complete(self, future: Any) -> Any:
        """Return what the future or coroutine returns; time passes until then.

        Raises:
            UsageError: another thread asks, a loop runs on this one, or nothing is left to happen.
        """
        self.enter(future)
        try:
            is_ours = not asyncio.isfuture(future)
            task = self.create_task(future) if is_ours else future
            try:
                self.turn_until(task.done)
            except BaseException:
                if is_ours and not task.done():
                    task.cancel()
                raise
        finally:
            self.leave()
        return task.result()

    def enter(self, work: object = None) -> None:
        """Be this thread's running loop until `leave`; where that is refused, `work` is closed.

        Raises:
            UsageError: it is another thread, a loop runs on it, or the loop is closed.
        """
        try:
            self._check_free()
        except UsageError:
            if isinstance(work, Coroutine):
                work.close()  # it will not be run, and nobody has to be warned of it
            raise
        self._is_running = True
        events._set_running_loop(self)  # noqa: SLF001  # as every event loop has to

    def leave(self) -> None:
        """Be the running loop no longer."""
        self._is_running = False
        events._set_running_loop(None)  # noqa: SLF001

    def run_forever(self) -> None:
        """Turn until `stop` is called."""
        self.enter()
        self._is_stopping = False
        try:
            self.turn_until(lambda: self._is_stopping)
        finally:
            self.leave()

    def stop(self) -> None:
        """Let `run_forever` end."""
        self._is_stopping = True

    def is_running(self) -> bool:
        """Return whether it turns now."""
        return self._is_running

    def is_closed(self) -> bool:
        """Return whether it was closed."""
        return self._is_closed

    def close(self) -> None:
        """Cancel what is under way, as far as it ends without time, and forget the rest."""
        if self._is_closed:
            return
        for task in asyncio.all_tasks(self):
            task.cancel()
        events._set_running_loop(self)  # noqa: SLF001
        try:
            self.turn_until(lambda: not self._ready)
        finally:
            self.leave()
        self._is_closed = True
        self._ready.clear()
        self._timers.clear()

    def fail(self, error: BaseException) -> None:
        """Let whoever turns the loop see an error that is nobody else's."""
        self._failure = error

    def check_thread(self) -> None:
        """Raise `UsageError` on any other thread than the one that made the loop."""
        if threading.get_ident() != self._thread:
            raise UsageError(
                "a simulated world was used from a second thread: all of it happens on the thread "
                "that made it; use tasks and the *_async forms in place of threads"
            )

    def get_debug(self) -> bool:
        """Return False."""
        return False

    def set_debug(self, enabled: bool) -> None:  # noqa: FBT001  # the base class's signature
        """Do nothing: there is no slow mode."""

    async def shutdown_asyncgens(self) -> None:
        """Do nothing: generators end with the program."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Do nothing: there is no executor."""

    def set_exception_handler(self, handler: Any) -> None:
        """Have errors that nobody awaited handled so; None = they are logged."""
        self._exception_handler = handler

    def get_exception_handler(self) -> Any:
        """Return what handles errors that nobody awaited."""
        return self._exception_handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log an error that nobody awaited."""
        error = context.get("exception")
        _log.error("%s", context.get("message"), exc_info=error)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Hand an error that nobody awaited to its handler."""
        if self._exception_handler is not None:
            self._exception_handler(self, context)
        else:
            self.default_exception_handler(context)

    def _check_free(self) -> None:
        """Raise `UsageError` unless this thread may turn the loop now."""
        self.check_thread()
        if self._is_closed:
            raise UsageError("the simulated world is closed: make a new one")
        if events._get_running_loop() is not None:  # noqa: SLF001  # the documented call raises
            raise UsageError(
                "this blocking call would stop the time that it waits for: inside an event loop "
                "use the *_async form or await"
            )

    def turn_until(self, is_over: Callable[[], bool]) -> None:
        """Run what is ready, one by one; with nothing ready, jump to the next timer."""
        ready = self._ready
        while not is_over():
            if not ready:
                self._jump()
                continue
            handle = ready.popleft()
            if handle._cancelled:  # noqa: SLF001  # a loop's right, as what follows
                continue
            try:
                handle._context.run(handle._callback, *handle._args)  # noqa: SLF001
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001  # nobody else hears of it
                message = f"a callback failed: {handle!r}"
                self.call_exception_handler({"message": message, "exception": error})
            if self._failure is not None:
                error, self._failure = self._failure, None
                raise error

    def _jump(self) -> None:
        timers = self._timers
        while timers:
            when, _, handle = heapq.heappop(timers)
            if handle.cancelled():
                self._num_cancelled -= 1
                continue
            self._now_s = max(self._now_s, when)
            self._ready.append(handle)
            while timers and timers[0][0] <= self._now_s:
                self._ready.append(heapq.heappop(timers)[2])
            return
        raise UsageError(
            "nothing is left to happen in the simulated world, and the program still waits: for "
            "an event that no task, timer or operation will bring"
        )
