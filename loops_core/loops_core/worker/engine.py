"""The loop that turns a sampler: takes requests in, loads their weights, hands outcomes out."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from loops_core.clock import Clock
from loops_core.errors import BusyError, ServerShutdownError
from loops_core.protocols import (
    SampleHandle,
    SampleOutcome,
    Sampler,
    SamplerDescription,
    SampleRequest,
)
from loops_core.worker.turning import THREADS, Drawing, Idle, Turner, Turns
from loops_core.worker.waits import Doorbell

MAX_WAITING: Final = 4096
"""Most requests that wait for or run on one sampler."""

MAX_IDLE_ADAPTERS: Final = 8
"""Most adapters that stay resident without a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Which weights answer a request.

    Attributes:
        adapter_id: unique to the published weights; None = the base model.
        path: the adapter's directory; None for the base model.
        version: the policy version, 0 for the base model; None where it was never published.
    """

    adapter_id: str | None = None
    path: Path | None = None
    version: int | None = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A finished request, the weights that answered it, and the seed it was drawn with."""

    outcome: SampleOutcome
    weights: Weights
    seed: int


Choose = Callable[[], Weights | None]
"""Returns the weights that may answer now, or None while the request must wait for newer ones."""


@dataclass(slots=True)
class _Job:
    make_request: Callable[[Weights], SampleRequest]
    choose: Choose
    deadline_s: float
    late: Callable[[], Exception]
    number: int
    future: Future[Answer] = field(default_factory=Future[Answer])
    weights: Weights = field(default_factory=Weights)
    seed: int = 0


@final
class SamplerEngine:
    """Owns one sampler and the loop that turns it. `submit` may be called from any thread."""

    def __init__(
        self, sampler: Sampler, clock: Clock, *, name: str, turner: Turner = THREADS
    ) -> None:
        """Start the loop."""
        self._sampler = sampler
        self._clock = clock
        self._lock = threading.Lock()
        self._bell = Doorbell()
        self._waiting: deque[_Job] = deque()
        self._running: dict[SampleHandle, _Job] = {}
        self._resident: OrderedDict[str, Path] = OrderedDict()
        self._numbers = itertools.count(1)
        self._closing = False
        self._turning = turner.start(self._turns(), self._bell, name=f"sampler-{name}")

    def describe(self) -> SamplerDescription:
        """Return what the sampler is."""
        return self._sampler.describe()

    def submit(
        self,
        make_request: Callable[[Weights], SampleRequest],
        choose: Choose,
        *,
        wait_s: float,
        late: Callable[[], Exception],
    ) -> Future[Answer]:
        """Queue a request and return its future; cancelling the future ends the request.

        Args:
            make_request: makes the request once its weights are chosen.
            choose: says which weights may answer; asked again whenever something was published.
            wait_s: how long it may go on saying None, in seconds.
            late: makes the error after that.

        Raises:
            BusyError: too many requests are waiting.
            ServerShutdownError: the engine is closed.
        """
        with self._lock:
            if self._closing:
                raise ServerShutdownError("the sampler is closed")
            if self._is_full():
                raise BusyError(
                    f"the sampler has {MAX_WAITING} requests waiting", retry_after_s=1.0
                )
            deadline_s = self._clock.monotonic() + wait_s
            job = _Job(make_request, choose, deadline_s, late, next(self._numbers))
            self._waiting.append(job)
        self._bell.ring()
        return job.future

    def published(self) -> None:
        """Ask the waiting requests again which weights may answer."""
        self._bell.ring()

    def close(self) -> None:
        """End the requests under way with an error, the loop, and the sampler."""
        with self._lock:
            self._closing = True
        self._bell.ring()
        self._turning.join(60)

    def _is_full(self) -> bool:
        """Return whether there is no place left; those whose callers have gone give up theirs."""
        if len(self._waiting) + len(self._running) >= MAX_WAITING:
            self._waiting = deque(job for job in self._waiting if not job.future.cancelled())
        return len(self._waiting) + len(self._running) >= MAX_WAITING

    def _turns(self) -> Turns:
        try:
            while True:
                with self._lock:
                    jobs = self._take_ready()
                    until_s = self._until_deadline()
                    if self._closing:
                        self._waiting.extend(jobs)
                        break
                if not jobs and not self._running:
                    yield Idle(until_s)
                    continue
                for job in jobs:
                    self._start(job)
                self._drop_cancelled()
                yield Drawing(len(self._running))
                self._step()
        finally:
            self._end()

    def _take_ready(self) -> list[_Job]:
        """Take the jobs whose weights are there or whose time is over out of the queue."""
        ready: list[_Job] = []
        still: deque[_Job] = deque()
        now_s = self._clock.monotonic()
        for job in self._waiting:
            weights = job.choose()
            if job.future.cancelled():
                continue
            if weights is None and now_s < job.deadline_s:
                still.append(job)
                continue
            if weights is None:
                _fail(job, job.late())
                continue
            job.weights = weights
            ready.append(job)
        self._waiting = still
        return ready

    def _until_deadline(self) -> float | None:
        if not self._waiting:
            return None
        first_s = min(job.deadline_s for job in self._waiting)
        return max(0.0, first_s - self._clock.monotonic())

    def _start(self, job: _Job) -> None:
        try:
            self._make_resident(job.weights)
            request = job.make_request(job.weights)
            job.seed = request.seed
            handle = self._sampler.submit(request)
        except Exception as error:  # noqa: BLE001  # a damaged adapter ends this request only
            _fail(job, error)
            return
        self._running[handle] = job

    def _make_resident(self, weights: Weights) -> None:
        if weights.adapter_id is None or weights.path is None:
            return
        if weights.adapter_id not in self._resident:
            self._sampler.load_adapter(weights.adapter_id, weights.path)
            self._resident[weights.adapter_id] = weights.path
        self._resident.move_to_end(weights.adapter_id)
        busy = {job.weights.adapter_id for job in self._running.values()}
        idle = [adapter for adapter in self._resident if adapter not in busy]
        for adapter in idle[: max(0, len(idle) - MAX_IDLE_ADAPTERS)]:
            self._sampler.drop_adapter(adapter)
            del self._resident[adapter]

    def _drop_cancelled(self) -> None:
        for handle, job in list(self._running.items()):
            if job.future.cancelled():
                self._sampler.cancel(handle)
                del self._running[handle]

    def _step(self) -> None:
        try:
            outcomes = self._sampler.step()
        except Exception as error:  # noqa: BLE001  # everybody it served must hear of it
            for handle, job in list(self._running.items()):
                self._sampler.cancel(handle)
                _fail(job, error)
            self._running.clear()
            return
        for outcome in outcomes:
            job = self._running.pop(outcome.handle, None)
            if job is None:
                continue
            if outcome.error is not None:
                _fail(job, outcome.error)
            elif job.future.set_running_or_notify_cancel():
                answer = Answer(outcome=outcome, weights=job.weights, seed=job.seed)
                job.future.set_result(answer)

    def _end(self) -> None:
        with self._lock:
            self._closing = True
            left = [*self._waiting, *self._running.values()]
            self._waiting.clear()
        for job in left:
            _fail(job, ServerShutdownError("the sampler was closed before it answered"))
        self._running.clear()
        self._sampler.close()


def _fail(job: _Job, error: Exception) -> None:
    if job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)
