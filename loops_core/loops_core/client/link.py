"""The link from a training client to its trainer: ordered submits, futures, observers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, final

from loops_core import chance
from loops_core.client import calls
from loops_core.client.drivers import Driver, Flow, compute
from loops_core.client.events import Announcer, version_of
from loops_core.client.futures import OperationFuture
from loops_core.client.heartbeat import Heartbeat
from loops_core.client.polling import OperationRef, Outcome
from loops_core.client.turns import Turn, Turnstile
from loops_core.client.waiting import BaseFuture, FutureHost
from loops_core.client.watching import Watcher
from loops_core.errors import LoopsError, TransportError, UsageError
from loops_core.hooks import RunEvent
from loops_core.plugins import Plugins
from loops_core.types.base import WireModel
from loops_core.types.operation import (
    Accepted,
    ForwardBody,
    OperationBody,
    OperationKind,
    SaveStateBody,
    SaveWeightsForSamplerBody,
)
from loops_core.types.routes import BatchPart
from loops_core.types.training import (
    ForwardBackwardOutput,
    InitTrainerServerResponse,
    SaveWeightsResponse,
)

ModelT = TypeVar("ModelT", bound=WireModel)
ResultT = TypeVar("ResultT")

_MOST_ROUNDS: Final = 8
"""How often the parts of a batch are gone through; once, unless a service loses some."""

_GRACE_S: Final = 1.0
"""How long a close waits for a watched result that may be on its way."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where in a service things are made.

    Attributes:
        team_id: the team they belong to; None = the caller's own.
        scope: as in `create_lora_training_client`.
        debug_version: a test version of the service that makes them.
    """

    team_id: str | None = None
    scope: str | None = None
    debug_version: str | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerSettings:
    """Where a trainer is and how long to wait for it.

    Attributes:
        base_url: where it answers.
        service_url: the service that it belongs to.
        session_id: the session that made it.
        max_seq_len: most positions of one datum, where the service said so.
        base_checkpoint: where the base weights came from; None = the base model's own.
        timeout_s: bound of one submit with all its attempts.
        ready_timeout_s: how long a result is waited for by default.
        sampler_timeout_s: bound of one sample of a paired sampler; None = the transport's own.
        sampler_num_replicas: copies of the paired sampler; None = as the service chooses.
        placement: where its sampler is made, as it was itself.
    """

    base_url: str
    service_url: str
    session_id: str | None
    max_seq_len: int | None = None
    base_checkpoint: str | None = None
    timeout_s: float = 600.0
    ready_timeout_s: float = 3600.0
    sampler_timeout_s: float | None = None
    sampler_num_replicas: int | None = None
    placement: Placement = Placement()


def new_key() -> str:
    """Return an idempotency key that nobody has used."""
    return chance.draw_hex(16)


@final
class TrainerLink:
    """One client's connection to one trainer.

    Attributes:
        driver: runs flows.
        plugins: whose observers are told.
        run: the client and its run.
        settings: where the trainer is.
        host: what futures are made with.
    """

    def __init__(
        self, driver: Driver, plugins: Plugins, run: RunEvent, settings: TrainerSettings
    ) -> None:
        self.driver = driver
        self.plugins = plugins
        self.run = run
        self.settings = settings
        self._lock = threading.Lock()
        self._lora_rank = run.lora_rank
        self._last_published = 0
        self._closed = False
        self._announcer = Announcer(plugins, run)
        self._heartbeat: Heartbeat | None = None
        self._turnstile = Turnstile(driver.clock)
        self._watcher = Watcher(driver)
        self.host = FutureHost(
            driver=driver,
            watcher=self._watcher,
            base_url=settings.base_url,
            timeout_s=settings.ready_timeout_s,
            check_open=self.check_open,
        )

    @property
    def lora_rank(self) -> int:
        """Return the rank of the adapter that was initialised last."""
        return self._lora_rank

    @property
    def last_published(self) -> int:
        """Return the newest policy version that this client has published, 0 before the first."""
        return self._last_published

    def check_open(self) -> None:
        """Raise `UsageError` once the client is closed."""
        if self._closed:
            raise UsageError(
                "this TrainingClient is closed: create another one to go on with its run"
            )

    def announce_open(self) -> Flow[None]:
        """Tell observers that the client was opened; their errors go to the caller.

        From now on the trainer hears that its client is there, where it wants to.
        """
        yield from compute(self._announcer.opened)
        period_s = self.driver.transport.heartbeat_s(self.settings.base_url)
        if period_s is not None:
            call = calls.health(
                base_url=self.settings.base_url,
                run_id=self.run.run_id,
                base_model=self.run.base_model,
            )
            self._heartbeat = Heartbeat(self.driver, call, period_s=period_s)

    def submit(
        self,
        kind: OperationKind,
        result_type: type[ModelT],
        body: OperationBody,
        *,
        idempotency_key: str | None = None,
    ) -> Flow[OperationFuture[ModelT]]:
        """Hand one operation over when its turn has come, and return its future."""
        futures = yield from self.submit_all(
            kind, result_type, [body], idempotency_key=idempotency_key
        )
        self.watch(futures[0])
        return futures[0]

    def submit_all(
        self,
        kind: OperationKind,
        result_type: type[ModelT],
        bodies: Sequence[OperationBody],
        *,
        idempotency_key: str | None = None,
        announce_metrics: bool = True,
    ) -> Flow[list[OperationFuture[ModelT]]]:
        """Hand operations over one after another, with nothing of this client in between."""
        self.check_open()
        key = idempotency_key or new_key()
        turn = Turn()
        try:
            yield from self._turnstile.wait(
                turn, count=len(bodies), timeout_s=self.settings.ready_timeout_s
            )
            self.check_open()
            futures: list[OperationFuture[ModelT]] = []
            for offset, body in enumerate(bodies):
                part_key = key if len(bodies) == 1 else f"{key}.{offset}"
                numbered = self._numbered(body, turn.first_seq_id + offset)
                try:
                    ref = yield from self._send(kind, result_type, numbered, part_key)
                except LoopsError as error:
                    if offset == 0:
                        raise
                    raise _after_part(error, offset, len(bodies), key) from error
                futures.append(self._future(ref, numbered, announce_metrics=announce_metrics))
            return futures
        finally:
            self._turnstile.leave(turn)

    def submit_parts(
        self,
        kind: OperationKind,
        result_type: type[ModelT],
        bodies: Sequence[OperationBody],
        *,
        idempotency_key: str | None = None,
        announce_metrics: bool = True,
    ) -> Flow[OperationFuture[ModelT]]:
        """Hand one operation over whose data travels in as many parts as there are bodies."""
        self.check_open()
        key = idempotency_key or new_key()
        turn = Turn()
        try:
            yield from self._turnstile.wait(turn, count=1, timeout_s=self.settings.ready_timeout_s)
            self.check_open()
            numbered = [self._numbered(body, turn.first_seq_id) for body in bodies]
            if len(numbered) == 1:
                ref = yield from self._send(kind, result_type, numbered[0], key)
            else:
                ref = yield from self._send_parts(kind, result_type, numbered, key)
            return self._future(ref, numbered[0], announce_metrics=announce_metrics)
        finally:
            self._turnstile.leave(turn)

    def metrics_teller(
        self, kind: OperationKind, operation_id: str
    ) -> Callable[[Outcome[ForwardBackwardOutput]], None]:
        """Return what tells observers of the metrics of a joined result."""

        def tell(outcome: Outcome[ForwardBackwardOutput]) -> None:
            if outcome.value is not None and not self._closed:
                self._announcer.measured(kind, operation_id, outcome.value)

        return tell

    def watch(self, future: BaseFuture[ResultT]) -> None:
        """Have the future settled without a waiter, where somebody logs its metrics."""
        if self.run.wandb_config is not None:
            self._watcher.watch(future)

    def close_flow(self) -> Flow[None]:
        """Collect what has finished for those who log it, then end; a second time does nothing."""
        for future in self._watcher.unsettled():
            try:
                yield from future.wait_flow(self.host.now() + _GRACE_S, patient=False)
            except LoopsError:
                break
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._heartbeat is not None:
            self._heartbeat.stop()
        self._watcher.stop()
        yield from compute(self._announcer.closed)

    def _numbered(self, body: OperationBody, seq_id: int) -> OperationBody:
        numbered = body.model_copy()
        numbered.seq_id = seq_id
        numbered.run_id = self.run.run_id
        numbered.model = self.run.base_model
        return numbered

    def _send(
        self, kind: OperationKind, result_type: type[ModelT], body: OperationBody, key: str
    ) -> Flow[OperationRef[ModelT]]:
        accepted = yield from self._deliver(kind, body, key, None)
        ref = OperationRef(accepted.operation_id, kind, self.run.run_id, result_type)
        self._announcer.submitted(ref)
        return ref

    def _send_parts(
        self,
        kind: OperationKind,
        result_type: type[ModelT],
        bodies: Sequence[OperationBody],
        key: str,
    ) -> Flow[OperationRef[ModelT]]:
        """Send what the service lacks of a batch until it lacks nothing.

        A service that restarts forgets parts, and asks for them again.
        """
        missing = list(range(len(bodies)))
        for _ in range(_MOST_ROUNDS):
            for index in missing:
                part = BatchPart(index, len(bodies))
                try:
                    accepted = yield from self._deliver(kind, bodies[index], key, part)
                except UsageError as error:
                    raise _in_part(error, bodies, index) from error
                if not accepted.missing_parts:
                    ref = OperationRef(accepted.operation_id, kind, self.run.run_id, result_type)
                    self._announcer.submitted(ref)
                    return ref
                missing = accepted.missing_parts
        raise TransportError(
            f"{kind} travels in {len(bodies)} parts, and the service lost some of them "
            f"{_MOST_ROUNDS} times: {len(missing)} are still missing, and nothing was executed"
        )

    def _deliver(
        self, kind: OperationKind, body: OperationBody, key: str, part: BatchPart | None
    ) -> Flow[Accepted]:
        call = calls.submit(
            kind,
            body,
            base_url=self.settings.base_url,
            idempotency_key=key,
            timeout_s=self.settings.timeout_s,
            part=part,
        )
        return (yield from self.driver.persist(call, budget_s=self.settings.timeout_s))

    def _future(
        self, ref: OperationRef[ModelT], body: OperationBody, *, announce_metrics: bool
    ) -> OperationFuture[ModelT]:
        submitted = self.host.now()
        name = body.name if isinstance(body, SaveStateBody | SaveWeightsForSamplerBody) else None

        def settled(outcome: Outcome[ModelT]) -> None:
            self._remember(outcome.value)
            if self._closed:
                return
            seconds = self.host.now() - submitted
            self._announcer.finished(ref, outcome, seconds=seconds)
            if isinstance(outcome.value, SaveWeightsResponse) and name is not None:
                self._announcer.saved(ref.kind, name, outcome.value.path)
            if outcome.value is not None and announce_metrics:
                self._announcer.measured(ref.kind, ref.operation_id, outcome.value)

        return OperationFuture(self.host, ref, on_settled=settled)

    def _remember(self, result: WireModel | None) -> None:
        with self._lock:
            if isinstance(result, InitTrainerServerResponse):
                self._lora_rank = result.lora_rank
            self._last_published = max(self._last_published, version_of(result) or 0)


def _in_part(error: UsageError, bodies: Sequence[OperationBody], index: int) -> UsageError:
    """Return the error of a refused part; it says where in the batch the part begins."""
    begins = sum(len(body.data) for body in bodies[:index] if isinstance(body, ForwardBody))
    told = error.copy()
    if begins:
        told.hint = (
            f"data[0] of this part is data[{begins}] of the batch; nothing of it was submitted"
        )
    return told


def _after_part(error: LoopsError, accepted: int, count: int, key: str) -> LoopsError:
    """Return the error of a batch that was accepted in part; it says how to complete it."""
    mended = error.copy()
    mended.hint = (
        f"{accepted} of the {count} requests that the batch was split into were accepted: repeat "
        f"the call with idempotency_key={key!r} to submit the others"
    )
    return mended
