"""Clients that vanish while they wait: nothing of theirs is held, what was accepted runs once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

import pytest
from tests.load.gauges import IS_READABLE, NEEDS_PROC, Gauge, until
from tests.load.raw import Caller, Plug

from loops_core import AdamParams, ServiceClient, TrainingClient
from loops_transport_http.bench import instant
from loops_transport_http.bench.servers import Server, open_instant_server
from loops_transport_http.bench.workload import TINY, make_data

pytestmark = [
    pytest.mark.slow,  # starts processes
    pytest.mark.skipif(not IS_READABLE, reason=NEEDS_PROC),
]

NUM_CLIENTS: Final = 100
ADAM: Final = AdamParams(learning_rate=0.1)
STEP: Final = {"adam_params": {"learning_rate": 0.1}}
LET_GO_S: Final = 20.0
"""A poll that is not let go of ends by itself, but only after 30 s."""

WAITING_CLIENT: Final = """
import sys, threading
from loops_core import AdamParams, ServiceClient
from loops_transport_http.bench import instant
url, key, count = sys.argv[1:]
with ServiceClient(base_url=url, api_key=key) as service:
    trainer = service.create_lora_training_client(instant.NAME)
    from loops_transport_http.bench.workload import TINY, make_data
    trainer.forward_backward(make_data(TINY), loss_fn_config={instant.HOLD: True})
    adam = AdamParams(learning_rate=0.1)
    futures = [trainer.optim_step(adam) for _ in range(int(count))]
    for future in futures:
        threading.Thread(target=future.result).start()
    print(trainer.run_id, *(future.operation_id for future in futures), flush=True)
    futures[-1].result()
"""
"""A program that submits steps behind the gate and waits for them; says their ids."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Serve the instant backend, its gate closed."""
    with open_instant_server() as serving:
        yield serving


@pytest.fixture
def service(server: Server) -> Iterator[ServiceClient]:
    """Return a client of the server, whose gate is closed."""
    server.gate.unlink(missing_ok=True)
    with ServiceClient(base_url=server.url, api_key=server.api_key) as client:
        yield client
    server.open_gate()


def steps_of(caller: Caller, run_id: str, ids: list[str]) -> list[float]:
    """Return which step each operation was."""
    steps: list[float] = []
    for operation_id in ids:
        status, _, content = caller.call("GET", f"/trainers/{run_id}/operations/{operation_id}")
        assert status == 200, content
        steps.append(json.loads(content)["result"]["metrics"]["step"])
    return steps


def lets_go(gauge: Gauge, caller: Caller, num_sockets: int) -> bool:
    """Return whether the server closes the connections of those who have gone, well in time."""
    deadline = time.monotonic() + LET_GO_S

    def is_over() -> bool:
        return gauge.num_sockets() <= num_sockets or time.monotonic() > deadline

    return until(is_over, caller.health, turns=1_000_000) and gauge.num_sockets() <= num_sockets


def hold(trainer: TrainingClient) -> None:
    """Have an operation at the gate, so that all behind it wait."""
    trainer.forward_backward(make_data(TINY), loss_fn_config={instant.HOLD: True})


def test_held_polls_of_clients_that_close_their_socket_end_at_once(
    server: Server, service: ServiceClient, record_property: Callable[[str, object], None]
) -> None:
    trainer = service.create_lora_training_client(instant.NAME)
    hold(trainer)
    run_id = trainer.run_id or ""
    gauge = Gauge(server.child.pid)
    with Caller(server) as caller:
        caller.health()
        before = gauge.num_sockets()
        ids: list[str] = []
        plugs: list[Plug] = []
        for _ in range(NUM_CLIENTS):
            with Caller(server) as client:
                ids.append(client.submit(run_id, "optim_step", STEP))
            plug = Plug.open(server)
            plug.begin(server, "GET", f"/trainers/{run_id}/operations/{ids[-1]}")
            plugs.append(plug)
        assert until(lambda: gauge.num_sockets() >= before + NUM_CLIENTS, caller.health)
        threads = gauge.num_threads()
        start = time.perf_counter()
        for plug in plugs:
            plug.vanish()
        assert lets_go(gauge, caller, before)
        record_property("let_go_s", round(time.perf_counter() - start, 2))
        assert gauge.num_threads() <= threads
        server.open_gate()
        assert steps_of(caller, run_id, ids) == list(range(1, NUM_CLIENTS + 1))
        assert steps_of(caller, run_id, ids[:1]) == [1.0]


def test_a_killed_client_leaves_nothing_and_its_operations_run_once(
    server: Server, service: ServiceClient
) -> None:
    del service  # it closed the gate
    gauge = Gauge(server.child.pid)
    assert server.api_key is not None
    with Caller(server) as caller:
        caller.health()
        before = gauge.num_sockets()
        client = subprocess.Popen(
            [sys.executable, "-c", WAITING_CLIENT, server.url, server.api_key, "20"],
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        assert client.stdout is not None
        run_id, *ids = client.stdout.readline().split()
        assert until(lambda: gauge.num_sockets() > before, caller.health)
        client.kill()
        client.communicate()
        assert lets_go(gauge, caller, before)
        server.open_gate()
        assert steps_of(caller, run_id, ids) == list(range(1, 21))


def test_a_run_is_not_behind_the_held_polls_of_another(
    server: Server, service: ServiceClient
) -> None:
    blocked = service.create_lora_training_client(instant.NAME)
    hold(blocked)
    behind = blocked.optim_step(ADAM)
    path = f"/trainers/{blocked.run_id}/operations/{behind.operation_id}"
    plugs = [Plug.open(server) for _ in range(NUM_CLIENTS)]
    for plug in plugs:
        plug.begin(server, "GET", path)
    free = service.create_lora_training_client(instant.NAME)
    for number, plug in enumerate(plugs, start=1):
        result = free.optim_step(ADAM).result()
        assert (result.metrics or {})["step"] == number
        plug.vanish()
    assert not behind.done()
    server.open_gate()
    assert (behind.result().metrics or {})["step"] == 1


def test_a_submit_whose_answer_nobody_reads_runs_once_with_its_repeat(
    server: Server, service: ServiceClient
) -> None:
    trainer = service.create_lora_training_client(instant.NAME)
    run_id = trainer.run_id or ""
    keys = [f"key-{number}" for number in range(NUM_CLIENTS)]
    body = json.dumps(STEP).encode()
    path = f"/trainers/{run_id}/optim_step"
    for key in keys:
        with Plug.open(server) as plug:
            plug.begin(server, "POST", path, announced=len(body), key=key)
            plug.sock.sendall(body)
    with Caller(server) as caller:
        ids = [caller.submit(run_id, "optim_step", STEP, key=key) for key in keys]
        assert sorted(steps_of(caller, run_id, ids)) == list(range(1, NUM_CLIENTS + 1))
    assert (trainer.optim_step(ADAM).result().metrics or {})["step"] == NUM_CLIENTS + 1
