"""Driving a coroutine from blocking code: what a task does, without a task's bookkeeping."""

from __future__ import annotations

import asyncio
from asyncio import tasks
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar, final

from loops_mock.simulation.loop import VirtualLoop

T = TypeVar("T")


@final
class Drive(Generic[T]):
    """Steps one coroutine on the frame that waits for it, and turns the loop in between.

    To the coroutine it is the current task, as far as `asyncio.timeout` and `asyncio.TaskGroup`
    ask. Most blocking calls end after a few steps: for them a task would cost more than its work.
    """

    __slots__ = ("_is_woken", "_loop", "_must_cancel", "_num_cancels", "_waited", "_work")

    def __init__(self, loop: VirtualLoop, work: Coroutine[Any, Any, T]) -> None:
        self._loop = loop
        self._work = work
        self._waited: asyncio.Future[Any] | None = None
        self._is_woken = False
        self._must_cancel = False
        self._num_cancels = 0

    def run(self) -> T:
        """Return what the coroutine returns; the loop turns while it waits."""
        loop = self._loop
        try:
            while True:
                waited = self._step()
                self._is_woken = False
                if waited is None:
                    loop.call_soon(self._wake)
                else:
                    waited._asyncio_future_blocking = False  # noqa: SLF001  # as a task has to
                    waited.add_done_callback(self._wake)
                    self._waited = waited
                loop.turn_until(self._has_woken)
                self._waited = None
        except StopIteration as stop:
            result: T = stop.value
            return result
        except BaseException:
            self._end()
            raise

    def cancel(self, msg: object = None) -> bool:
        """Let the coroutine hear of a cancellation where it waits."""
        del msg
        self._num_cancels += 1
        if self._waited is None or not self._waited.cancel():
            self._must_cancel = True
        return True

    def cancelling(self) -> int:
        """Return how many cancellations were asked for."""
        return self._num_cancels

    def uncancel(self) -> int:
        """Take one cancellation back; return how many are left."""
        self._num_cancels = max(0, self._num_cancels - 1)
        return self._num_cancels

    def get_loop(self) -> VirtualLoop:
        """Return the loop."""
        return self._loop

    def get_name(self) -> str:
        """Return what it is called."""
        return "drive"

    def done(self) -> bool:
        """Return False: while anybody can ask, it is under way."""
        return False

    def _step(self) -> asyncio.Future[Any] | None:
        """Return what the coroutine waits for now."""
        tasks._enter_task(self._loop, self)  # type: ignore[arg-type]  # noqa: SLF001  # a task's part
        try:
            if self._must_cancel:
                self._must_cancel = False
                return self._work.throw(asyncio.CancelledError())
            return self._work.send(None)
        finally:
            tasks._leave_task(self._loop, self)  # type: ignore[arg-type]  # noqa: SLF001

    def _wake(self, *_: object) -> None:
        self._is_woken = True

    def _has_woken(self) -> bool:
        return self._is_woken

    def _end(self) -> None:
        """Give up what is waited for, and let the coroutine clean up."""
        if self._waited is not None:
            self._waited.cancel()
        self._work.close()
