"""Storms of refusals between client and server: waited out, never beaten against."""

from __future__ import annotations

from itertools import chain, pairwise, repeat

import pytest
from tests.faults.clocks import SkippingClock
from tests.faults.plan import LOST_RESPONSE, PASS, Fault, answered, reset_request
from tests.faults.proxy import Proxy
from tests.faults.training import RETRIEVE, SUBMIT, Training
from tests.serving import KEY

from loops_core import ServiceClient
from loops_core.errors import ResultTimeoutError, TransportError

pytestmark = pytest.mark.slow

STATUSES = (408, 429, 500, 502, 503, 504)
ENDED = 408  # of a poll: its hold is over, nothing has failed


@pytest.mark.parametrize("status", STATUSES)
def test_a_submit_outlasts_a_storm(training: Training, status: int) -> None:
    training.learn(3)
    training.clock.naps.clear()
    training.proxy.inject(SUBMIT, [answered(status)] * 9)
    future = training.submit(3)
    naps = list(training.clock.naps)
    training.check_result(3, training.result(future))
    training.check_active(3)
    assert len(naps) == 9
    assert all(2**n / 4 <= nap <= 2**n / 2 for n, nap in enumerate(naps[:6]))
    assert all(15 <= nap <= 30 for nap in naps[6:])


@pytest.mark.parametrize("status", [status for status in STATUSES if status != ENDED])
def test_a_retrieve_outlasts_a_storm(training: Training, status: int) -> None:
    training.learn(3)
    future = training.submit(3)
    training.clock.naps.clear()
    training.proxy.inject(RETRIEVE, [answered(status)] * 9)
    training.check_result(3, training.result(future))
    assert len(training.clock.naps) == 9
    assert sum(training.clock.naps) > 60
    training.check_active(3)


def test_a_retrieve_that_is_answered_early_is_asked_ever_more_slowly(training: Training) -> None:
    training.learn(3)
    future = training.submit(3)
    training.clock.naps.clear()
    training.proxy.inject(RETRIEVE, [answered(ENDED)] * 9)
    training.check_result(3, training.result(future))
    naps = training.clock.naps
    assert len(naps) == 9
    assert all(earlier < 1.01 * later for earlier, later in pairwise(naps))
    assert naps[-1] > 0.5
    training.check_active(3)


@pytest.mark.parametrize("route", [SUBMIT, RETRIEVE])
@pytest.mark.parametrize("status", STATUSES)
def test_what_a_service_asks_for_is_never_undercut(
    training: Training, status: int, route: str
) -> None:
    training.learn(3)
    training.clock.naps.clear()
    training.proxy.inject(route, [answered(status, retry_after="40")] * 3)
    training.check_result(3, training.result(training.submit(3)))
    assert len(training.clock.naps) == 3
    assert all(40 <= nap <= 44 for nap in training.clock.naps)
    training.check_active(3)


def test_a_life_goes_on_through_failures_of_every_route(proxy: Proxy) -> None:
    storm = chain.from_iterable(
        [answered(503), reset_request(50), LOST_RESPONSE, answered(429, retry_after="1"), PASS]
        for _ in repeat(None)
    )
    clock = SkippingClock()
    with ServiceClient(base_url=proxy.url, api_key=KEY, clock=clock) as service:
        service.get_server_capabilities()  # from here on it is known that creates are repeated
        proxy.inject(".", storm)
        client = service.create_lora_training_client("mock-tiny", rank=2)
        training = Training(client, proxy, clock)
        for size in (2, 3):
            training.learn(size)
            futures = [training.submit(size) for _ in range(3)]
            for future in futures:
                training.check_result(size, training.result(future))
            training.check_active(*[size] * 3)
        saved = client.save_state("kept").result()
        assert client.load_state_with_optimizer(saved.path).result().step == training.steps
        names = [checkpoint.checkpoint_id for checkpoint in client.list_checkpoints()]
        assert names == ["kept"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [(answered(503), "503"), (reset_request(0), "not answered"), (LOST_RESPONSE, "not answered")],
    ids=["refused", "reset", "lost"],
)
def test_a_submit_that_is_given_up_says_what_was_pending(
    training: Training, fault: Fault, said: str
) -> None:
    training.proxy.inject(SUBMIT, repeat(fault))
    start_s = training.clock.monotonic()
    with pytest.raises(TransportError) as caught:
        training.submit(3)
    attempts = len(training.proxy.matching(SUBMIT))
    told = str(caught.value)
    assert f"forward_backward was tried {attempts} times within 600 s" in told
    assert said in told
    assert 500 < training.clock.monotonic() - start_s <= 600.5
    assert attempts > 20


@pytest.mark.parametrize(
    ("fault", "said"),
    [(answered(502), "502"), (reset_request(0), "not answered"), (LOST_RESPONSE, "not answered")],
    ids=["refused", "reset", "lost"],
)
def test_a_wait_that_is_given_up_says_what_was_pending(
    training: Training, fault: Fault, said: str
) -> None:
    training.learn(3)
    future = training.submit(3)
    training.proxy.inject(RETRIEVE, repeat(fault))
    with pytest.raises(ResultTimeoutError) as caught:
        future.result(timeout=300)
    told = str(caught.value)
    assert "forward_backward" in told
    assert future.operation_id in told
    assert said in told
    training.proxy.clear()
    training.check_result(3, future.result())
    training.check_active(3)
