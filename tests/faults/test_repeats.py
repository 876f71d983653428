"""Submits that arrive twice, and answers that are lost: nothing runs twice, nothing is lost."""

from __future__ import annotations

import pytest
from tests.faults.plan import LOST_RESPONSE, TWICE, Fault, cut_request
from tests.faults.training import RETRIEVE, STEP, SUBMIT, Training, make_data

from loops_core.errors import TransportError, UnreachableError

pytestmark = pytest.mark.slow

SIZES = (2, 3, 5, 7, 11)


@pytest.mark.parametrize("times", [2, 8])
def test_copies_of_a_submit_that_arrive_at_once_run_once(training: Training, times: int) -> None:
    for size in SIZES:
        training.learn(size)
    training.proxy.inject(SUBMIT, [Fault(times=times)] * len(SIZES))
    training.proxy.inject(STEP, [Fault(times=times)])
    futures = [training.submit(size) for size in SIZES]
    training.check_active(*SIZES)
    for size, future in zip(SIZES, futures, strict=True):
        training.check_result(size, training.result(future))
    training.check_nothing_active()


def test_copies_of_a_retrieve_give_one_result(training: Training) -> None:
    training.learn(3)
    future = training.submit(3)
    training.proxy.inject(RETRIEVE, [TWICE] * 2)
    training.check_result(3, training.result(future))
    training.check_active(3)


def test_lost_answers_are_asked_for_until_one_arrives(training: Training) -> None:
    for size in SIZES:
        training.learn(size)
    training.proxy.clear()
    training.proxy.inject(SUBMIT, [LOST_RESPONSE] * 12)
    training.proxy.inject(RETRIEVE, [LOST_RESPONSE] * 12)
    futures = [training.submit(size) for size in SIZES]
    for size, future in zip(SIZES, futures, strict=True):
        training.check_result(size, training.result(future))
    training.check_active(*SIZES)
    submits = training.proxy.matching(SUBMIT)
    assert len(submits) == 12 + len(SIZES)
    assert [seen.status for seen in submits] == [202] * len(submits)
    assert len({seen.key for seen in submits}) == len(SIZES)


def test_a_submit_that_was_given_up_is_found_again_by_its_key(training: Training) -> None:
    training.learn(3)
    training.proxy.inject(SUBMIT, [LOST_RESPONSE] * 1000)
    with pytest.raises(TransportError):
        training.client.forward_backward(make_data(3), idempotency_key="mine")
    training.proxy.clear()
    future = training.client.forward_backward(make_data(3), idempotency_key="mine")
    training.check_result(3, future.result())
    training.check_active(3)


def test_a_submit_that_never_arrived_ran_never(training: Training) -> None:
    training.learn(3)
    training.proxy.inject(SUBMIT, [cut_request(80)] * 1000)
    with pytest.raises(UnreachableError):
        training.submit(3)
    training.proxy.clear()
    training.check_nothing_active()
