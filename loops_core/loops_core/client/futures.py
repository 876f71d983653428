"""Futures: results of operations that the service is still working on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, final

from loops_core.client import calls, polling
from loops_core.client.drivers import Flow, Sleep, send
from loops_core.client.polling import OperationRef, Outcome
from loops_core.client.waiting import BaseFuture, FutureHost
from loops_core.errors import (
    LoopsError,
    OperationCancelledError,
    RemoteOpError,
    ResultTimeoutError,
    TransportError,
)
from loops_core.types.base import WireModel
from loops_core.types.operation import CancelReply
from loops_core.types.training import ForwardBackwardOutput

ResultT = TypeVar("ResultT")
ModelT = TypeVar("ModelT", bound=WireModel)
FirstT = TypeVar("FirstT", bound=WireModel)

STAGE_PERIOD_S: Final = 2.0
"""Pause between two looks at a sampler that has to load new weights."""

STAGE_CEILING_S: Final = 600.0
"""How long a sampler may take to load new weights, whatever the caller's own timeout."""

_CANCEL_BUDGET_S: Final = 30.0


@final
class OperationFuture(BaseFuture[ModelT]):
    """The result of one operation of a trainer."""

    def __init__(
        self,
        host: FutureHost,
        ref: OperationRef[ModelT],
        *,
        on_settled: Callable[[Outcome[ModelT]], None] | None = None,
    ) -> None:
        super().__init__(host)
        self._ref = ref
        self._on_settled = on_settled
        self._early = 0
        self._failures = 0
        self._not_before = 0.0
        self._trouble: TransportError | None = None

    @property
    def operation_id(self) -> str:
        """Return the service's handle for the operation."""
        return self._ref.operation_id

    def cancel(self) -> bool:
        """Ask for the operation never to run; True when it will not, False when it is too late.

        After True every waiter gets `OperationCancelledError`.

        Raises:
            UnsupportedError: the service does not cancel operations.
        """
        return self._host.driver.run(self.cancel_flow())

    def cancel_flow(self) -> Flow[bool]:
        """Return what `cancel` does, for the driver."""
        if self._outcome is not None:
            return isinstance(self._outcome.error, OperationCancelledError)
        self._host.check_open()
        call = calls.cancel(
            self.operation_id, base_url=self._host.base_url, run_id=self._ref.run_id
        )
        reply: CancelReply = yield from self._host.driver.persist(call, budget_s=_CANCEL_BUDGET_S)
        if reply.cancelled:
            cancelled = OperationCancelledError("the operation was cancelled before it ran")
            self._settle(Outcome(error=self._ref.own(cancelled)))
        return reply.cancelled

    def advance(self, deadline: float, *, patient: bool) -> Flow[None]:
        """Play one round: take one step towards the outcome, and settle when it is there."""
        del patient
        now = self._host.now()
        if now < self._not_before:
            yield Sleep(min(self._not_before, deadline) - now)
            now = self._host.now()
            if now < self._not_before:
                return
        left_s = max(0.0, deadline - now)
        hold_s = min(polling.HOLD_S, left_s)
        call = calls.retrieve(
            self.operation_id,
            base_url=self._host.base_url,
            run_id=self._ref.run_id,
            hold_s=hold_s,
            left_s=left_s,
        )
        try:
            status = yield from send(call)
        except TransportError as error:
            self._after_trouble(error)
        except LoopsError as error:
            self._settle(Outcome(error=self._ref.own(error)))
        else:
            outcome = polling.read_status(status, self._ref)
            if outcome is not None:
                self._settle(outcome)
            else:
                self._after_pending(held_s=self._host.now() - now, hold_s=hold_s)

    def _after_trouble(self, error: TransportError) -> None:
        self._trouble = error
        self._failures += 1
        pause = polling.pause_after_failure(
            error,
            attempts=self._failures,
            left_s=float("inf"),
            jitter=self._host.driver.random.random(),
        )
        self._not_before = self._host.now() + (pause or 0.0)

    def _after_pending(self, *, held_s: float, hold_s: float) -> None:
        self._trouble, self._failures = None, 0
        self._early = self._early + 1 if polling.is_early(held_s=held_s, hold_s=hold_s) else 0
        pause = polling.pause_after_early_answer(self._early, held_s=held_s, hold_s=hold_s)
        self._not_before = self._host.now() + pause

    def _settled_with(self, outcome: Outcome[ModelT]) -> None:
        if self._on_settled is not None:
            self._on_settled(outcome)

    def timed_out(self) -> ResultTimeoutError:
        """Return the error of a wait that ended."""
        message = "the result was not there in time: the operation goes on, ask again"
        if self._trouble is not None:
            message = f"{message}; the last poll failed: {self._trouble}"
        return ResultTimeoutError(
            message,
            operation_id=self._ref.operation_id,
            operation=self._ref.kind.value,
            run_id=self._ref.run_id,
        )


APIFuture = OperationFuture
"""The same class under the name of later clients."""


@final
class ForwardBackwardFuture(BaseFuture[ForwardBackwardOutput]):
    """The result of `forward` or `forward_backward`: of one operation, or joined from several.

    A batch too large for one request travels as several operations; `timeout` is for all of them,
    and `operation_id` is the first one's.
    """

    def __init__(
        self,
        host: FutureHost,
        parts: Sequence[OperationFuture[ForwardBackwardOutput]],
        join: Callable[[Sequence[ForwardBackwardOutput]], ForwardBackwardOutput],
        *,
        on_settled: Callable[[Outcome[ForwardBackwardOutput]], None] | None = None,
    ) -> None:
        super().__init__(host)
        self._parts = tuple(parts)
        self._join = join
        self._on_settled = on_settled
        for part in self._parts:
            part.when_settled(self._settle_if_known)

    @property
    def operation_id(self) -> str:
        """Return the service's handle for the operation, the first one of several."""
        return self._parts[0].operation_id

    def cancel(self) -> bool:
        """Ask for the operation never to run; True when it will not, False when it is too late.

        Of several operations, later ones are asked only once the first will not run: half a batch
        is never run on purpose. After True every waiter gets `OperationCancelledError`.

        Raises:
            UnsupportedError: the service does not cancel operations.
        """
        first, *others = self._parts
        if not first.cancel():
            return False
        cancelled = [part.cancel() for part in others]
        return all(cancelled)

    def advance(self, deadline: float, *, patient: bool) -> Flow[None]:
        """Play one round: take one step towards the outcome, and settle when it is there."""
        if len(self._parts) == 1:  # nobody else has it: this future's rounds are its rounds
            yield from self._parts[0].advance(deadline, patient=patient)
        else:
            for part in self._parts:
                yield from part.wait_flow(deadline, patient=patient)
        if not self.settled:  # whoever settled the last part may not have come to that yet
            self._settle_if_known()

    def _settle_if_known(self) -> None:
        outcomes = [part.outcome for part in self._parts]
        known = [outcome for outcome in outcomes if outcome is not None]
        failed = next((outcome for outcome in known if outcome.error is not None), None)
        if failed is not None:
            self._settle(failed)
        elif len(known) == len(outcomes):
            self._settle(self._joined([outcome.unwrap() for outcome in known]))

    def _joined(self, outputs: Sequence[ForwardBackwardOutput]) -> Outcome[ForwardBackwardOutput]:
        try:
            return Outcome(value=self._join(outputs))
        except ValueError as error:  # pydantic's too: a sum that is no finite number
            return Outcome(error=RemoteOpError(f"the results cannot be joined: {error}"))

    def _settled_with(self, outcome: Outcome[ForwardBackwardOutput]) -> None:
        if self._on_settled is not None:
            self._on_settled(outcome)

    def timed_out(self) -> ResultTimeoutError:
        """Return the error of a wait that ended."""
        return self._parts[0].timed_out()


@final
class ComposedFuture(BaseFuture[ResultT]):
    """The result of a second stage that starts when an operation has succeeded.

    The `timeout` of a wait bounds the operation. The second stage has a ceiling of its own, 600
    seconds, after which every waiter gets its error, a `RuntimeError`.
    """

    def __init__(
        self,
        host: FutureHost,
        first: OperationFuture[FirstT],
        step: Callable[[FirstT], Flow[ResultT | None]],
        too_late: Callable[[FirstT], LoopsError],
    ) -> None:
        """Compose the two stages.

        Args:
            host: the client.
            first: the operation.
            step: one look at the second stage: its value, or None while it is not there.
            too_late: the error of a second stage that reached its ceiling.
        """
        super().__init__(host)
        self._first: OperationFuture[Any] = first
        self._step: Callable[[Any], Flow[ResultT | None]] = step
        self._too_late: Callable[[Any], LoopsError] = too_late
        self._stage_started: float | None = None
        self._not_before = 0.0

    @property
    def operation_id(self) -> str:
        """Return the service's handle for the first stage's operation."""
        return self._first.operation_id

    def cancel(self) -> bool:
        """Ask for the operation never to run; True when it will not, False when it is too late.

        After True every waiter gets `OperationCancelledError`.

        Raises:
            UnsupportedError: the service does not cancel operations.
        """
        return self._first.cancel()

    def advance(self, deadline: float, *, patient: bool) -> Flow[None]:
        """Play one round: take one step towards the outcome, and settle when it is there."""
        outcome = yield from self._first.wait_flow(deadline)
        if outcome.error is not None:
            self._settle(Outcome(error=outcome.error))
            return
        now = self._host.now()
        if self._stage_started is None:
            self._stage_started = self._not_before = now
        if now < self._not_before:
            limit = self._limit(deadline, patient=patient)
            yield Sleep(max(0.0, min(self._not_before, limit) - now))
            if self._host.now() < self._not_before:
                return
        yield from self._look(outcome.value, started=self._stage_started)

    def _look(self, value: object, *, started: float) -> Flow[None]:
        try:
            result = yield from self._step(value)
        except TransportError:
            result = None
        except LoopsError as error:
            self._settle(Outcome(error=error))
            return
        now = self._host.now()
        self._not_before = now + STAGE_PERIOD_S
        if result is not None:
            self._settle(Outcome(value=result))
        elif now - started >= STAGE_CEILING_S:
            self._settle(Outcome(error=self._too_late(value)))

    def _limit(self, deadline: float, *, patient: bool) -> float:
        first = self._first.outcome
        in_stage = first is not None and first.error is None
        return float("inf") if patient and in_stage else deadline

    def timed_out(self) -> ResultTimeoutError:
        """Return the error of a wait that ended."""
        return self._first.timed_out()
