"""Decisions about answers and failures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_core.client import polling
from loops_core.client.polling import OperationRef, backoff_s, pause_after_failure, read_status
from loops_core.errors import (
    BusyError,
    ConflictError,
    LoopsError,
    OperationCancelledError,
    RemoteOpError,
    UnreachableError,
    UsageError,
    error_to_body,
)
from loops_core.types.operation import ErrorBody, OperationKind, OperationStatus
from loops_core.types.training import OptimStepResponse

REF = OperationRef("op1", OperationKind.OPTIM_STEP, "r1", OptimStepResponse)
JITTERS = st.floats(0, 1, exclude_max=True)
ATTEMPTS = st.integers(1, 10_000)


@given(ATTEMPTS, JITTERS)
def test_a_pause_is_never_longer_than_the_bound(attempts: int, jitter: float) -> None:
    assert 0 < backoff_s(attempts, jitter=jitter) <= polling.LONGEST_PAUSE_S


@given(ATTEMPTS, JITTERS)
def test_pauses_never_shrink_from_one_attempt_to_the_next(attempts: int, jitter: float) -> None:
    assert backoff_s(attempts, jitter=jitter) <= backoff_s(attempts + 1, jitter=jitter)


@given(ATTEMPTS, JITTERS, JITTERS)
def test_jitter_spreads_a_pause_over_half_of_it(attempts: int, one: float, other: float) -> None:
    pauses = [backoff_s(attempts, jitter=jitter) for jitter in (one, other)]
    assert max(pauses) <= 2 * min(pauses)


@given(st.floats(0, 1e6), ATTEMPTS, JITTERS)
def test_what_the_service_asked_for_is_never_undercut(
    asked: float, attempts: int, jitter: float
) -> None:
    error = BusyError("full", retry_after_s=asked)
    pause = pause_after_failure(error, attempts=attempts, left_s=float("inf"), jitter=jitter)
    assert pause is not None
    assert pause >= asked
    assert pause > 0


@given(st.sampled_from([None, -1.0, float("nan"), float("inf")]), ATTEMPTS, JITTERS)
def test_a_request_that_makes_no_sense_gives_way_to_the_backoff(
    asked: float | None, attempts: int, jitter: float
) -> None:
    error = BusyError("full", retry_after_s=asked)
    pause = pause_after_failure(error, attempts=attempts, left_s=float("inf"), jitter=jitter)
    assert pause == backoff_s(attempts, jitter=jitter)


@given(ATTEMPTS, st.floats(-10, 100), JITTERS)
def test_a_pause_always_fits_into_what_is_left(attempts: int, left_s: float, jitter: float) -> None:
    error = UnreachableError("the line broke")
    pause = pause_after_failure(error, attempts=attempts, left_s=left_s, jitter=jitter)
    assert pause is None or pause <= left_s


@given(st.integers(1, 10_000), st.floats(0, 14.9))
def test_an_early_answer_is_followed_by_a_pause_of_at_most_a_second(
    early: int, held_s: float
) -> None:
    pause = polling.pause_after_early_answer(early, held_s=held_s, hold_s=30)
    assert 0 < pause <= 1


def test_a_held_answer_is_followed_by_the_next_poll_at_once() -> None:
    assert polling.pause_after_early_answer(0, held_s=29.9, hold_s=30) == 0


def test_pending_is_no_outcome() -> None:
    assert read_status(OperationStatus(status="pending"), REF) is None


@pytest.mark.parametrize(
    "error", [UsageError("bad shape", field="data", hint="reshape it"), ConflictError("used")]
)
def test_what_an_operation_failed_with_is_a_remote_op_error_of_that_class(
    error: LoopsError,
) -> None:
    status = OperationStatus(status="error", error="x", error_body=error_to_body(error))
    outcome = read_status(status, REF)
    assert outcome is not None
    assert isinstance(outcome.error, RemoteOpError)
    assert outcome.error.error_class == type(error).__name__
    named = {"operation_id": "op1", "operation": "optim_step", "run_id": "r1"}
    assert outcome.error.fields() == {
        **error.fields(),
        **named,
        "error_class": type(error).__name__,
    }


@pytest.mark.parametrize(
    "error", [RemoteOpError("boom", error_class="DispatcherError"), OperationCancelledError("no")]
)
def test_a_failure_or_a_cancel_comes_back_as_it_is_with_its_operation(error: LoopsError) -> None:
    status = OperationStatus(status="error", error="x", error_body=error_to_body(error))
    outcome = read_status(status, REF)
    assert outcome is not None
    assert type(outcome.error) is type(error)
    named = {"operation_id": "op1", "operation": "optim_step", "run_id": "r1"}
    assert outcome.error is not None
    assert outcome.error.fields() == error.fields() | named


def test_an_error_without_a_body_is_a_remote_op_error() -> None:
    status = OperationStatus(status="error", error="boom", error_class="DispatcherError")
    outcome = read_status(status, REF)
    assert outcome is not None
    assert isinstance(outcome.error, RemoteOpError)
    assert (outcome.error.message, outcome.error.error_class) == ("boom", "DispatcherError")


def test_an_error_of_an_unknown_class_keeps_the_class_s_name() -> None:
    body = ErrorBody(code="FutureError", message="boom")
    outcome = read_status(OperationStatus(status="error", error_body=body), REF)
    assert outcome is not None
    assert isinstance(outcome.error, RemoteOpError)
    assert outcome.error.error_class == "FutureError"


def test_an_unreadable_result_names_the_field() -> None:
    status = OperationStatus(status="done", result={"metrics": {"loss": "high"}})
    outcome = read_status(status, REF)
    assert outcome is not None
    assert outcome.error is not None
    assert "metrics.loss" in str(outcome.error)
