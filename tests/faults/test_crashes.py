"""The server's process is killed in the middle of a pipelined run, and started again."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pytest
from tests.faults.clocks import SkippingClock
from tests.faults.plan import LOST_RESPONSE, PASS, Fault, cut_request
from tests.faults.proxy import Proxy
from tests.faults.training import OPERATION, RETRIEVE, make_data
from tests.serving import KEY, Server

from loops_core import AdamParams, ServiceClient, TrainingClient
from loops_core.client.waiting import BaseFuture
from loops_core.types.training import ForwardBackwardOutput, OptimStepResponse

pytestmark = pytest.mark.slow

ADAM: Final = AdamParams(learning_rate=0.05)
ROUNDS: Final = 10
PASSES: Final = 3
"""Passes of a round, before its step: 40 operations in all."""

Futures = list[BaseFuture[ForwardBackwardOutput] | BaseFuture[OptimStepResponse]]


@dataclass(frozen=True, slots=True)
class End:
    """What a run has come to: every operation's result, and what its weights answer."""

    results: list[ForwardBackwardOutput | OptimStepResponse]
    probe: ForwardBackwardOutput


@contextmanager
def opened(url: str) -> Generator[TrainingClient]:
    """Yield a run that is the same every time."""
    with ServiceClient(base_url=url, api_key=KEY, clock=SkippingClock()) as service:
        yield service.create_lora_training_client("mock-tiny", rank=2, seed=7)


def submit_all(client: TrainingClient) -> Futures:
    """Hand all operations over, and wait for none."""
    futures: Futures = []
    for index in range(ROUNDS):
        futures += [client.forward_backward(make_data(2 + index + n)) for n in range(PASSES)]
        futures.append(client.optim_step(ADAM))
    return futures


def end_of(client: TrainingClient, futures: Futures) -> End:
    """Wait for everything, the newest first."""
    newest_first = [future.result() for future in reversed(futures)]
    return End(newest_first[::-1], client.forward(make_data(20)).result())


@pytest.fixture(scope="module")
def undisturbed(serving: Server) -> End:
    """Return what the run comes to when nothing happens."""
    with opened(serving.url) as client:
        return end_of(client, submit_all(client))


def check(end: End, undisturbed: End) -> None:
    """Check that each operation was applied once, in order."""
    for got, expected in zip(end.results, undisturbed.results, strict=True):
        assert got == expected
    assert end.probe == undisturbed.probe


@pytest.fixture
def crash(request: pytest.FixtureRequest, serving: Server) -> Iterator[Callable[[], None]]:
    """Return what kills the server and starts it again; check that it did, as often as planned."""
    pids = [serving.pid]

    def crash() -> None:
        serving.kill()
        serving.start()
        pids.append(serving.pid)

    yield crash
    planned: int = getattr(request, "param", 1)
    assert len(set(pids)) == 1 + planned


@pytest.mark.parametrize(
    "earlier",
    [[PASS] * 17, [PASS] * 22 + [LOST_RESPONSE], [PASS] * 23 + [cut_request(200)]],
    ids=["between-submits", "accepted-but-not-heard", "half-sent"],
)
def test_a_run_whose_server_dies_while_it_submits_comes_to_the_same_end(
    proxy: Proxy, undisturbed: End, crash: Callable[[], None], earlier: list[Fault]
) -> None:
    with opened(proxy.url) as client:
        proxy.inject(OPERATION, [*earlier, Fault(before=crash)])
        end = end_of(client, submit_all(client))
    check(end, undisturbed)
    submits = proxy.matching(OPERATION)
    assert len({seen.key for seen in submits}) == ROUNDS * (PASSES + 1) + 1
    assert len(submits) > len({seen.key for seen in submits})


@pytest.mark.parametrize("crash", [2], indirect=True)
def test_a_run_whose_server_dies_while_it_waits_comes_to_the_same_end(
    proxy: Proxy, undisturbed: End, crash: Callable[[], None]
) -> None:
    with opened(proxy.url) as client:
        futures = submit_all(client)
        crash()  # at once: some operations run, some wait
        proxy.inject(RETRIEVE, [PASS] * 5 + [Fault(before=crash)])
        check(end_of(client, futures), undisturbed)
