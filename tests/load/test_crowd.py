"""Thousands of futures that wait at once: others are answered, and everything is given back.

Short: 200 futures. `LOOPS_LONG_LOAD=1`: 2,000. The operations stand behind the gate of the instant
backend, so that they do wait for as long as the test looks at them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import pytest
from tests.load.gauges import IS_READABLE, NEEDS_PROC, Gauge, until
from tests.load.raw import IS_LONG, Caller, Latencies, Plug

from loops_core import ServiceClient, TrainingClient
from loops_transport_http.bench import instant
from loops_transport_http.bench.servers import Server, allow_connections, open_instant_server
from loops_transport_http.bench.workload import TINY, make_body, make_data

pytestmark = [
    pytest.mark.slow,  # starts processes
    pytest.mark.skipif(not IS_READABLE, reason=NEEDS_PROC),
    pytest.mark.timeout(600),
]

NUM_FUTURES: Final = 2_000 if IS_LONG else 200
NUM_HELD: Final = 2_000 if IS_LONG else 200
ROUNDS: Final = 200 if IS_LONG else 40
"""How often somebody else asks and submits meanwhile."""

MOST_CONNECTIONS: Final = 40
"""A client that shares its polls needs one of them a thread or loop, and some for its submits; as
many as it may hold single polls at once, and none for each future."""

MOST_THREADS: Final = 32
"""Threads that the server's pools may still start: none of them is a waiter's."""

KIB_PER_FUTURE: Final = 8
"""What waits stands in the log on disk: in memory is its id, and that somebody asks for it."""

KIB_PER_CONNECTION: Final = 64
"""A request that is held is a connection with its buffers, the request's headers, and tasks."""

SLACK_MIB: Final = 16
"""What the first requests of each kind leave behind, however many follow."""


@pytest.fixture
def server() -> Iterator[Server]:
    """Serve the instant backend, its gate closed."""
    assert allow_connections(NUM_HELD)
    with open_instant_server() as serving:
        yield serving


@pytest.fixture
def trainer(server: Server) -> Iterator[TrainingClient]:
    """Return a trainer with an operation that is held at the gate."""
    with ServiceClient(base_url=server.url, api_key=server.api_key) as service:
        trainer = service.create_lora_training_client(instant.NAME)
        trainer.forward_backward(make_data(TINY), loss_fn_config={instant.HOLD: True})
        yield trainer
        server.open_gate()


def meanwhile(server: Server, submit: Callable[[], object], run_id: str) -> Latencies:
    """Return what somebody else's calls took, and a submit of the waiting client's."""
    latencies = Latencies()
    body = make_body(make_data(TINY)).model_dump(mode="json")
    with Caller(server) as other:
        calls: dict[str, Callable[[], object]] = {
            "health": other.health,
            "submit": lambda: other.submit(run_id, "forward_backward", body),
            "our submit": submit,
        }
        for _ in range(ROUNDS):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                latencies.add(name, time.perf_counter() - start)
    return latencies


def given_back(server: Server, gauge: Gauge, num_sockets: int) -> bool:
    """Return whether the server has no more connections than it had."""
    with Caller(server) as caller:
        return until(lambda: gauge.num_sockets() - 1 <= num_sockets, caller.health)


def test_futures_that_threads_wait_for_cost_others_nothing(
    server: Server, trainer: TrainingClient, record_property: Callable[[str, object], None]
) -> None:
    gauge, mine = Gauge(server.child.pid), threading.active_count()
    data = make_data(TINY)
    sockets, rss, threads = gauge.num_sockets(), gauge.rss_mib(), gauge.num_threads()
    futures = [trainer.forward_backward(data) for _ in range(NUM_FUTURES)]
    waiters = [threading.Thread(target=future.result) for future in futures]
    for waiter in waiters:
        waiter.start()
    latencies = meanwhile(server, lambda: trainer.forward_backward(data), trainer.run_id or "")
    growth, num_sockets = gauge.rss_mib() - rss, gauge.num_sockets()
    assert not any(future.settled for future in futures)
    assert num_sockets - sockets <= MOST_CONNECTIONS
    assert gauge.num_threads() - threads <= MOST_THREADS
    start = time.perf_counter()
    server.open_gate()
    for waiter in waiters:
        waiter.join()
    record_property("latencies", str(latencies))
    record_property("drained_s", round(time.perf_counter() - start, 1))
    record_property("server", f"{growth:.1f} MiB, {num_sockets - sockets} connections more")
    assert all(future.settled for future in futures)
    assert growth <= SLACK_MIB + NUM_FUTURES * KIB_PER_FUTURE / 1024
    assert threading.active_count() <= mine


async def test_futures_that_a_loop_waits_for_cost_others_nothing(
    server: Server, trainer: TrainingClient, record_property: Callable[[str, object], None]
) -> None:
    gauge = Gauge(server.child.pid)
    data = make_data(TINY)
    sockets, rss, threads = gauge.num_sockets(), gauge.rss_mib(), gauge.num_threads()
    futures = [await trainer.forward_backward_async(data) for _ in range(NUM_FUTURES)]
    waits = [asyncio.create_task(future.result_async()) for future in futures]
    loop = asyncio.get_running_loop()

    def submit() -> None:
        asyncio.run_coroutine_threadsafe(trainer.forward_backward_async(data), loop).result()

    run_id = trainer.run_id or ""
    latencies = await asyncio.to_thread(meanwhile, server, submit, run_id)
    growth, num_sockets = gauge.rss_mib() - rss, gauge.num_sockets()
    assert not any(wait.done() for wait in waits)
    assert num_sockets - sockets <= MOST_CONNECTIONS
    assert gauge.num_threads() - threads <= MOST_THREADS
    start = time.perf_counter()
    server.open_gate()
    results = await asyncio.gather(*waits)
    record_property("latencies", str(latencies))
    record_property("drained_s", round(time.perf_counter() - start, 1))
    record_property("server", f"{growth:.1f} MiB, {num_sockets - sockets} connections more")
    assert [result.loss for result in results] == [1.0] * NUM_FUTURES
    assert growth <= SLACK_MIB + NUM_FUTURES * KIB_PER_FUTURE / 1024


def test_held_requests_cost_others_nothing_and_are_given_back(
    server: Server, trainer: TrainingClient, record_property: Callable[[str, object], None]
) -> None:
    gauge = Gauge(server.child.pid)
    data = make_data(TINY)
    ids = [trainer.forward_backward(data).operation_id for _ in range(NUM_HELD)]
    before, rss = gauge.holdings(), gauge.rss_mib()
    sockets = gauge.num_sockets()
    plugs = [Plug.open(server) for _ in ids]
    for plug, operation_id in zip(plugs, ids, strict=True):
        plug.begin(server, "GET", f"/trainers/{trainer.run_id}/operations/{operation_id}")
    latencies = meanwhile(server, lambda: trainer.forward_backward(data), trainer.run_id or "")
    growth, threads = gauge.rss_mib() - rss, gauge.num_threads() - before.threads
    assert gauge.num_sockets() - sockets >= NUM_HELD
    server.open_gate()
    answers = [plug.answer() for plug in plugs]
    for plug in plugs:
        plug.vanish()
    record_property("latencies", str(latencies))
    record_property("server", f"{growth:.1f} MiB, {threads} threads more")
    assert {status for status, _, _ in answers} == {200}
    assert all(b'"done"' in content for _, _, content in answers)
    assert threads <= MOST_THREADS
    assert growth <= SLACK_MIB + NUM_HELD * KIB_PER_CONNECTION / 1024
    assert given_back(server, gauge, sockets)
