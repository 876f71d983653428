"""Peers that are slow, or silent: no call outlives its timeout, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import repeat
from typing import Final

import httpx
import pytest
from tests.faults.clocks import SkippingClock
from tests.faults.plan import NEVER_ANSWERED, Fault, Way
from tests.faults.proxy import Proxy
from tests.faults.training import RETRIEVE, SUBMIT, Training, make_data
from tests.serving import KEY, Server

from loops_core import ModelInput, ServiceClient
from loops_core.errors import ResultTimeoutError, SampleTimeoutError, TransportError
from loops_core.types.operation import ForwardBody

pytestmark = pytest.mark.slow

TIMEOUT_S: Final = 1.0
LATE_S: Final = 4.0
"""How late the end may come: a poll may take a second more, and a machine may be very busy. A call
that forgot its own bound would come later still: polls are held for 5 seconds more."""

SILENCES: Final = ("never", "headers", "body", "trickle")
"""When an answer stops coming; a trickle never stops, nor does it end in time."""


def silence(when: str, *, size: int) -> Fault:
    """Return a fault of answers of that size."""
    if when == "trickle":
        return Fault(response=Way(pause_s=0.05))
    return Fault(
        response=Way(stop_at={"never": 0, "headers": 30, "body": size - 5}[when], then="hold")
    )


def train_directly(url: str, run_id: str, *, size: int) -> float:
    """Let another client execute a pass on a run; return its active positions."""
    body = ForwardBody(data=make_data(size), loss_fn="cross_entropy").model_dump_json()
    headers = {"Authorization": f"Api-Key {KEY}", "Content-Type": "application/json"}
    root = f"{url}/trainers/{run_id}"
    with httpx.Client(headers=headers, timeout=60) as client:
        accepted = client.post(f"{root}/forward_backward", content=body).json()
        status = client.get(f"{root}/operations/{accepted['operation_id']}").json()
    return status["result"]["metrics"]["active_tokens"]


@contextmanager
def bounded(seconds: float = TIMEOUT_S) -> Generator[None]:
    """Check that the block takes no longer than that."""
    start_s = time.monotonic()
    yield
    assert time.monotonic() - start_s < seconds + LATE_S


@pytest.fixture(params=["sync", "async"])
def trained(request: pytest.FixtureRequest, proxy: Proxy) -> Iterator[Training]:
    """Train with a bound of a second on each submit."""
    clock = SkippingClock()
    with ServiceClient(base_url=proxy.url, api_key=KEY, clock=clock) as service:
        client = service.create_lora_training_client("mock-tiny", rank=2, timeout=TIMEOUT_S)
        training = Training(client, proxy, clock)
        if request.param == "sync":
            yield training
            return
        with asyncio.Runner() as runner:
            training.runner = runner
            yield training
            runner.run(client.aclose())


@pytest.mark.parametrize("when", SILENCES)
def test_no_submit_outlives_its_timeout(trained: Training, when: str) -> None:
    trained.learn(3)
    size = trained.proxy.size_of(SUBMIT, of_response=True)
    trained.proxy.inject(SUBMIT, repeat(silence(when, size=size)))
    with bounded(), pytest.raises(TransportError, match="forward_backward was tried once") as told:
        trained.submit(3)
    assert "within 1 s" in str(told.value)
    trained.proxy.clear()
    trained.check_active(3)  # it had arrived, and nothing was repeated


@pytest.mark.parametrize("when", SILENCES)
def test_no_wait_outlives_its_timeout(trained: Training, when: str) -> None:
    trained.learn(3)
    trained.result(trained.submit(3))
    size = trained.proxy.size_of(RETRIEVE, of_response=True)
    trained.check_active(3)
    future = trained.submit(3)
    trained.proxy.inject(RETRIEVE, repeat(silence(when, size=size)))
    with bounded(), pytest.raises(ResultTimeoutError) as told:
        trained.result(future, timeout_s=TIMEOUT_S)
    assert f"forward_backward {future.operation_id}" in str(told.value)
    trained.proxy.clear()
    trained.check_result(3, trained.result(future))
    trained.check_active(3)


def test_no_look_outlives_its_moment(training: Training) -> None:
    training.learn(3)
    future = training.submit(3)
    training.proxy.inject(RETRIEVE, repeat(NEVER_ANSWERED))
    with bounded(0.0):
        assert not future.done()


def test_no_sample_outlives_its_timeout(proxy: Proxy) -> None:
    with ServiceClient(base_url=proxy.url, api_key=KEY, clock=SkippingClock()) as service:
        sampler = service.create_sampling_client("mock-tiny", timeout=TIMEOUT_S)
        proxy.inject("/sample", repeat(NEVER_ANSWERED))
        with bounded(), pytest.raises(SampleTimeoutError):
            sampler.sample(ModelInput.from_ints([1, 2]))


def test_a_body_that_nobody_takes_ends_with_the_submits_timeout(trained: Training) -> None:
    trained.proxy.inject(SUBMIT, repeat(Fault(request=Way(stop_at=1000, then="hold"))))
    data = make_data(2000) * 300  # more than sockets hold
    with bounded(), pytest.raises(TransportError, match="forward_backward was tried once"):
        trained.submit_data(data)
    trained.proxy.clear()
    trained.check_nothing_active()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(request=Way(stop_at=20, then="hold")),
        Fault(request=Way(stop_at=700, then="hold")),
        Fault(response=Way(stop_at=20, then="hold")),
    ],
    ids=["headers", "body", "answer"],
)
def test_a_slow_client_holds_nobody_else(training: Training, serving: Server, fault: Fault) -> None:
    """One run's submit is stuck in the middle, while another client works on the same run."""
    training.learn(3)
    training.proxy.inject(SUBMIT, [fault])
    with ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(training.submit, 3)
        training.proxy.wait_until_held()
        active = train_directly(serving.url, str(training.client.run_id), size=5)
        assert not stuck.done()
        training.proxy.release()
        training.check_result(3, stuck.result().result())
    assert active == 5
    training.check_active(3, 5)
