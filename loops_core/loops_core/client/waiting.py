"""Waiting: how any number of threads and event loops share one result that is fetched once."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar, final

from loops_core.client.arguments import check_seconds
from loops_core.client.drivers import Driver, Flow, Signal, Wait, running_loop
from loops_core.client.polling import Outcome
from loops_core.client.watching import Watcher
from loops_core.errors import LoopsError, ResultTimeoutError

ResultT = TypeVar("ResultT")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FutureHost:
    """What a future needs of the client that made it.

    Attributes:
        driver: sends its polls.
        watcher: settles it while nobody waits.
        base_url: where the operation's trainer answers.
        timeout_s: how long `result()` waits when it is not told.
        check_open: raises `UsageError` once the client is closed.
    """

    driver: Driver
    watcher: Watcher
    base_url: str
    timeout_s: float
    check_open: Callable[[], None]

    def now(self) -> float:
        """Return the client's monotonic time."""
        return self.driver.clock.monotonic()


class BaseFuture(ABC, Generic[ResultT]):
    """A result that is fetched once, on whichever thread or event loop waits, and remembered.

    Safe from any number of threads and event loops at once. A wait that times out, is interrupted
    or cancelled leaves the operation running and the future usable. Each waiter gets its own copy
    of an error.
    """

    def __init__(self, host: FutureHost) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._round: Signal | None = None
        self._claimed = False
        self._outcome: Outcome[ResultT] | None = None
        self._published = Signal()

    @property
    @abstractmethod
    def operation_id(self) -> str:
        """Return the service's handle for the operation."""

    @property
    def settled(self) -> bool:
        """Tell whether the outcome is known here, without asking the service."""
        return self._outcome is not None

    @property
    def outcome(self) -> Outcome[ResultT] | None:
        """Return the outcome if it is known here, without asking the service."""
        return self._outcome

    def result(self, timeout: float | None = None) -> ResultT:
        """Return the operation's result; blocks until it is there.

        Args:
            timeout: seconds to wait at most; None = the client's `ready_timeout`.

        Raises:
            ResultTimeoutError: the wait ended; the operation goes on and the future stays usable.
            RemoteOpError: the operation ran and failed.
            OperationCancelledError: it was cancelled before it ran.
            LoopsError: whatever else it failed with.
        """
        return self._host.driver.run(self.wait_flow(self._deadline(timeout))).unwrap()

    async def result_async(self, timeout: float | None = None) -> ResultT:  # noqa: ASYNC109 - as published
        """Return the operation's result, as `result` does, without blocking the event loop."""
        outcome = await self._host.driver.run_async(self.wait_flow(self._deadline(timeout)))
        return outcome.unwrap()

    def __await__(self) -> Generator[Any, None, ResultT]:
        """Wait as `result_async()` does."""
        return self.result_async().__await__()

    def exception(self, timeout: float | None = None) -> LoopsError | None:
        """Return what the operation failed with, or None; waits as `result` does.

        Raises:
            ResultTimeoutError: the wait ended; the operation goes on and the future stays usable.
        """
        outcome = self._host.driver.run(self.wait_flow(self._deadline(timeout)))
        return None if outcome.error is None else outcome.error.copy()

    def done(self) -> bool:
        """Tell whether the result is there; asks the service once, without waiting.

        While another waiter's poll is under way its answer is what counts, and nothing is asked.
        """
        try:
            self._host.driver.run(self.wait_flow(self._host.now(), patient=False))
        except ResultTimeoutError:
            return False
        return True

    def add_done_callback(self, fn: Callable[[Self], object]) -> None:
        """Call `fn` with this future once it is settled, at once if it is.

        A thread of the client watches the future from now on. What `fn` raises is logged.

        Raises:
            UsageError: the client is closed, and nobody would ever call `fn`.
        """
        if not self.settled:
            self._host.check_open()
            self._host.watcher.watch(self)
        self._published.listen(lambda: fn(self))

    def when_settled(self, fn: Callable[[], object]) -> None:
        """Call `fn` once somebody has settled the future, at once if it is; nobody waits."""
        self._published.listen(fn)

    @abstractmethod
    def cancel(self) -> bool:
        """Ask for the operation never to run; True when it will not, False when it is too late.

        After True every waiter gets `OperationCancelledError`.
        """

    def wait_flow(self, deadline: float, *, patient: bool = True) -> Flow[Outcome[ResultT]]:
        """Return the outcome, for the driver.

        One waiter at a time asks the service, in rounds; the others wait for the end of the round,
        with their own deadlines, and one of them takes over if the one that asks gives up.

        Args:
            deadline: when to give up, on the client's monotonic clock.
            patient: whether phases that have a ceiling of their own may go on after the deadline.
        """
        while True:
            if self._outcome is not None:
                return self._outcome
            self._host.check_open()
            mine = Signal(running_loop())
            try:
                current = self._begin(mine)
                if current is mine:
                    yield from self.advance(deadline, patient=patient)
                else:
                    left_s = self._limit(deadline, patient=patient) - self._host.now()
                    if left_s > 0:
                        yield Wait(current, left_s)
            finally:
                self._end(mine)
            if self._outcome is None and self._host.now() >= self._limit(deadline, patient=patient):
                raise self.timed_out()

    @abstractmethod
    def advance(self, deadline: float, *, patient: bool) -> Flow[None]:
        """Play one round: take one step towards the outcome, and settle when it is there."""

    @abstractmethod
    def timed_out(self) -> ResultTimeoutError:
        """Return the error of a wait that ended."""

    def _limit(self, deadline: float, *, patient: bool) -> float:
        """Return when a waiter gives up."""
        del patient
        return deadline

    def _settled_with(self, outcome: Outcome[ResultT]) -> None:
        """Do what has to be done once, before anybody sees the outcome."""

    def _settle(self, outcome: Outcome[ResultT]) -> None:
        with self._lock:
            if self._claimed:
                return
            self._claimed = True
        try:
            self._settled_with(outcome)
        finally:
            self._outcome = outcome
            self._published.set()

    def _begin(self, mine: Signal) -> Signal:
        with self._lock:
            if self._claimed:
                return self._published
            if self._round is None:
                self._round = mine
            return self._round

    def _end(self, mine: Signal) -> None:
        with self._lock:
            if self._round is mine:
                self._round = None
        mine.set()

    def _deadline(self, timeout: float | None) -> float:
        timeout_s = self._host.timeout_s if timeout is None else check_seconds("timeout", timeout)
        return self._host.now() + timeout_s
