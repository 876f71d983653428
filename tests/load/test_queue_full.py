"""A full queue: a submit waits, then is told when to come again; a client of ours gets through."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Final

import pytest
from tests.load.raw import Caller

from loops_core import AdamParams, ServiceClient, TrainingClient
from loops_core.types.training import OptimStepResponse
from loops_transport_http.bench import instant
from loops_transport_http.bench.servers import Server, open_instant_server
from loops_transport_http.bench.workload import TINY, BatchSize, make_body, make_data, make_json

pytestmark = pytest.mark.slow  # starts a process

MOST: Final = 4
"""How many operations may wait."""

ADAM: Final = AdamParams(learning_rate=0.1)
BIG: Final = BatchSize(num_data=16, length=4096)
"""Its body has more than a quarter of a MiB, packed."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Serve with little room, and with little patience for those who wait for it."""
    options = ["--max-queued", str(MOST), "--max-queued-mib", "1", "--room-wait-s", "0.2"]
    with open_instant_server(options=options) as serving:
        yield serving


@pytest.fixture
def service(server: Server) -> Iterator[ServiceClient]:
    """Return a client of the server, whose gate is closed."""
    server.gate.unlink(missing_ok=True)
    with ServiceClient(base_url=server.url, api_key=server.api_key) as client:
        yield client
    server.open_gate()


def fill(server: Server, trainer: TrainingClient) -> None:
    """Let one operation run, up to the gate, and as many wait behind it as may."""
    trainer.forward_backward(make_data(TINY), loss_fn_config={instant.HOLD: True})
    # The running one waits no longer: there is room for all of these at last.
    for _ in range(MOST):
        trainer.optim_step(ADAM)


def step_of(result: OptimStepResponse) -> float:
    """Return which step it was."""
    return (result.metrics or {})["step"]


def test_a_submit_over_the_bound_is_told_when_to_come_again(
    server: Server, service: ServiceClient
) -> None:
    trainer = service.create_lora_training_client(instant.NAME)
    fill(server, trainer)
    with Caller(server) as caller:
        path = f"/trainers/{trainer.run_id}/optim_step"
        status, response, content = caller.call("POST", path, b'{"adam_params": {}}')
        assert status == 408
        assert float(response.headers["Retry-After"]) > 0
        assert b"BusyError" in content
        caller.health()
        server.open_gate()


def test_a_full_queue_of_one_run_is_no_other_runs(server: Server, service: ServiceClient) -> None:
    fill(server, service.create_lora_training_client(instant.NAME))
    other = service.create_lora_training_client(instant.NAME)
    assert step_of(other.optim_step(ADAM).result()) == 1


def test_our_client_waits_as_asked_and_gets_through_once(
    server: Server, service: ServiceClient
) -> None:
    trainer = service.create_lora_training_client(instant.NAME)
    fill(server, trainer)
    steps: list[float] = []
    more = threading.Thread(target=lambda: steps.append(step_of(trainer.optim_step(ADAM).result())))
    more.start()
    with Caller(server) as caller:
        path = f"/trainers/{trainer.run_id}/optim_step"
        refused = [caller.call("POST", path, b'{"adam_params": {}}')[0] for _ in range(3)]
    assert refused == [408] * 3
    assert not steps
    server.open_gate()
    more.join()
    assert steps == [MOST + 1]


async def test_our_async_client_waits_as_asked_and_gets_through_once(
    server: Server, service: ServiceClient
) -> None:
    trainer = service.create_lora_training_client(instant.NAME)
    await asyncio.to_thread(fill, server, trainer)
    submits = [asyncio.create_task(trainer.optim_step_async(ADAM)) for _ in range(3)]
    with Caller(server) as caller:
        path = f"/trainers/{trainer.run_id}/optim_step"
        status, _, _ = await asyncio.to_thread(caller.call, "POST", path, b'{"adam_params": {}}')
    assert status == 408
    assert not any(submit.done() for submit in submits)
    server.open_gate()
    futures = await asyncio.gather(*submits)
    results = await asyncio.gather(*(future.result_async() for future in futures))
    assert [step_of(result) for result in results] == [MOST + 1, MOST + 2, MOST + 3]


def test_bytes_are_bounded_beside_the_number(server: Server, service: ServiceClient) -> None:
    trainer = service.create_lora_training_client(instant.NAME)
    data = make_data(BIG)
    trainer.forward_backward(make_data(TINY), loss_fn_config={instant.HOLD: True})
    body = make_json(make_body(data))
    with Caller(server) as caller:
        path = f"/trainers/{trainer.run_id}/forward_backward"
        statuses = [caller.call("POST", path, body)[0] for _ in range(MOST)]
    assert statuses[0] == 202
    assert statuses[-1] == 408
    server.open_gate()
    assert trainer.forward_backward(data).result().loss == 1.0
