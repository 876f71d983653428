"""A connection may break at any byte: the operation runs once, and its result is right.

`LOOPS_LONG_FAULTS=1` tries every position; otherwise every so manieth is tried, from the first to
the last.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Final

import pytest
from tests.faults.plan import Fault, cut_request, cut_response, reset_request, reset_response
from tests.faults.training import RETRIEVE, STEP, SUBMIT, Training

pytestmark = pytest.mark.slow

STRIDE: Final = 1 if os.environ.get("LOOPS_LONG_FAULTS") == "1" else 29
SIZE: Final = 3

REQUESTS: Final = pytest.param(reset_request, False, id="request-reset")
RESPONSES: Final = pytest.param(reset_response, True, id="response-reset")
SHORT_REQUESTS: Final = pytest.param(cut_request, False, id="request-cut")
SHORT_RESPONSES: Final = pytest.param(cut_response, True, id="response-cut")

BREAKS: Final = (REQUESTS, SHORT_REQUESTS, RESPONSES, SHORT_RESPONSES)

Faulty = Callable[[int], Fault]


@pytest.fixture(params=["sync", "async"])
def trained(request: pytest.FixtureRequest, training: Training) -> Iterator[Training]:
    """Train from a plain thread, or from an event loop."""
    if request.param == "sync":
        yield training
        return
    with asyncio.Runner() as runner:
        training.runner = runner
        yield training
        runner.run(training.client.aclose())


def positions(size: int) -> list[int]:
    """Return the positions to try in a message of that size: the first, the last, and between."""
    assert size > 100
    return [*range(0, size, STRIDE), size - 1]


@pytest.mark.parametrize(("faulty", "of_response"), BREAKS)
def test_a_pass_runs_once_wherever_its_submit_breaks(
    trained: Training, faulty: Faulty, of_response: bool
) -> None:
    trained.learn(SIZE)
    for position in positions(trained.proxy.size_of(SUBMIT, of_response=of_response)):
        trained.proxy.clear()
        trained.proxy.inject(SUBMIT, [faulty(position)])
        future = trained.submit(SIZE)
        assert len(trained.proxy.matching(SUBMIT)) == 2, position
        trained.check_result(SIZE, trained.result(future))
        trained.check_active(SIZE)


@pytest.mark.parametrize(("faulty", "of_response"), BREAKS)
def test_a_step_runs_once_wherever_its_submit_breaks(
    training: Training, faulty: Faulty, of_response: bool
) -> None:
    training.learn(SIZE)
    for position in positions(training.proxy.size_of(STEP, of_response=of_response)):
        training.submit(SIZE)
        training.proxy.clear()
        training.proxy.inject(STEP, [faulty(position)])
        training.check_active(SIZE)
        assert len(training.proxy.matching(STEP)) == 2, position


@pytest.mark.parametrize(("faulty", "of_response"), BREAKS)
def test_a_result_arrives_wherever_its_retrieve_breaks(
    trained: Training, faulty: Faulty, of_response: bool
) -> None:
    trained.learn(SIZE)
    trained.result(trained.submit(SIZE))
    size = trained.proxy.size_of(RETRIEVE, of_response=of_response)
    trained.check_active(SIZE)
    for position in positions(size):
        future = trained.submit(SIZE)
        trained.proxy.clear()
        trained.proxy.inject(RETRIEVE, [faulty(position)])
        trained.check_result(SIZE, trained.result(future))
        assert len(trained.proxy.matching(RETRIEVE)) >= 2, position
        trained.check_active(SIZE)
