"""What to do after each answer and each failure; decisions only, nothing waits here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, cast, final

from pydantic import ValidationError

from loops_core.errors import (
    BusyError,
    LoopsError,
    OperationCancelledError,
    RemoteOpError,
    TransportError,
    error_from_body,
)
from loops_core.types.base import WireModel
from loops_core.types.operation import OperationKind, OperationStatus

ResultT = TypeVar("ResultT")
ModelT = TypeVar("ModelT", bound=WireModel)

HOLD_S: Final = 30.0
"""The longest that a poll may be held; the protocol's bound."""

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0

_EARLY_PAUSE_S: Final = 0.02
_LONGEST_EARLY_PAUSE_S: Final = 1.0
_LEAST_RETRY_AFTER_S: Final = 0.05


@final
@dataclass(frozen=True, slots=True)
class Outcome(Generic[ResultT]):
    """How an operation ended: with a value, or with an error."""

    value: ResultT | None = None
    error: LoopsError | None = None

    def unwrap(self) -> ResultT:
        """Return the value, or raise a copy of the error that is the caller's own."""
        if self.error is not None:
            raise self.error.copy()
        return cast("ResultT", self.value)


@final
@dataclass(frozen=True, slots=True)
class OperationRef(Generic[ModelT]):
    """An accepted operation, and how its result is read."""

    operation_id: str
    kind: OperationKind
    run_id: str | None
    result_type: type[ModelT]

    def own(self, error: LoopsError) -> LoopsError:
        """Return a copy of the error that names this operation."""
        return error.for_operation(
            operation_id=self.operation_id, operation=self.kind.value, run_id=self.run_id
        )


def read_status(status: OperationStatus, ref: OperationRef[ModelT]) -> Outcome[ModelT] | None:
    """Return how the operation ended; None while it waits or runs."""
    match status.status:
        case "pending":
            return None
        case "error":
            return Outcome(error=ref.own(_error_of(status)))
        case "done":
            return _read_result(status, ref)


def _error_of(status: OperationStatus) -> LoopsError:
    body = status.error_body
    if body is None:
        message = status.error or "the operation failed, and the service gave no reason"
        return RemoteOpError(message, error_class=status.error_class)
    error = error_from_body(body)
    if isinstance(error, RemoteOpError | OperationCancelledError):
        return error
    return RemoteOpError(body.message, error_class=body.code, field=error.field, hint=error.hint)


def _read_result(status: OperationStatus, ref: OperationRef[ModelT]) -> Outcome[ModelT]:
    if isinstance(status.result, ref.result_type):
        return Outcome(value=status.result)
    try:
        return Outcome(value=ref.result_type.model_validate(status.result))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "result"
        unreadable = RemoteOpError(
            f"the operation is done, but its result is no {ref.result_type.__name__}: "
            f"{where}: {first['msg']}",
            error_class=type(error).__name__,
        )
        return Outcome(error=ref.own(unreadable))


def backoff_s(attempts: int, *, jitter: float) -> float:
    """Return the pause after `attempts` failures: doubling, between half of it and the whole.

    Args:
        attempts: failures so far, from 1.
        jitter: a number in [0, 1).

    >>> [backoff_s(n, jitter=0.0) for n in (1, 2, 3, 20)]
    [0.25, 0.5, 1.0, 15.0]
    """
    doublings = min(attempts - 1, 16)
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**doublings) * (0.5 + jitter / 2)


def pause_after_failure(
    error: TransportError, *, attempts: int, left_s: float, jitter: float
) -> float | None:
    """Return how long to wait before the call is repeated; None = give up and raise.

    What the service asked for (`BusyError.retry_after_s`) is never undercut.

    Args:
        error: what the last attempt failed with.
        attempts: attempts so far, from 1.
        left_s: seconds left of the call's budget.
        jitter: a number in [0, 1).
    """
    pause = backoff_s(attempts, jitter=jitter)
    asked = error.retry_after_s if isinstance(error, BusyError) else None
    if asked is not None and math.isfinite(asked) and asked >= 0:
        pause = max(asked, _LEAST_RETRY_AFTER_S) * (1 + jitter / 10)
    return pause if pause <= left_s else None


def pause_after_early_answer(early: int, *, held_s: float, hold_s: float) -> float:
    """Return how long to wait after a poll came back pending.

    A service that holds its polls is asked again at once. One that answers before the hold is over
    is asked ever more slowly, so that it is never hit in a loop.

    Args:
        early: how many answers in a row came early, this one included.
        held_s: how long this poll took.
        hold_s: how long it might have taken.

    >>> pause_after_early_answer(1, held_s=30.0, hold_s=30.0)
    0.0
    >>> pause_after_early_answer(3, held_s=0.0, hold_s=30.0)
    0.08
    """
    if not is_early(held_s=held_s, hold_s=hold_s):
        return 0.0
    return min(_LONGEST_EARLY_PAUSE_S, _EARLY_PAUSE_S * 2 ** min(early - 1, 16))


def is_early(*, held_s: float, hold_s: float) -> bool:
    """Tell whether a pending answer came well before its hold was over."""
    return held_s < 0.5 * hold_s
