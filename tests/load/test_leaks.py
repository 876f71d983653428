"""Thousands of operations in a row: neither client nor server holds more after than at the start.

Short: 300 operations. `LOOPS_LONG_LOAD=1`: 5,000.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.load.gauges import IS_READABLE, NEEDS_PROC, Gauge, Holdings, until
from tests.load.raw import IS_LONG, Caller, Plug
from tests.serving import Server, server

from loops_core import (
    AdamParams,
    Datum,
    ModelInput,
    SamplingClient,
    SamplingParams,
    ServiceClient,
    TensorData,
    TrainingClient,
)

__all__ = ["server"]

pytestmark = [
    pytest.mark.slow,  # starts a process
    pytest.mark.skipif(not IS_READABLE, reason=NEEDS_PROC),
    pytest.mark.timeout(600),
]

NUM_OPERATIONS: Final = 5_000 if IS_LONG else 300
WARM: Final = 50
"""Operations after which everything that is kept is there: pools, caches, connections."""

SAMPLE_EVERY: Final = 5
SAVE_EVERY: Final = 25
"""How many operations there are to each sample, and to each checkpoint and its download."""

POOLED_THREADS: Final = 4
"""Threads that read files come and go by themselves; there are more checkpoints than this."""

BURST: Final = 64
BURSTS: Final = 5
"""How many requests come at once to fill a pool of 16 threads, and how often."""

PROMPT: Final = ModelInput.from_ints([5, 6])
DATUM: Final = Datum(
    model_input=PROMPT,
    loss_fn_inputs={"target_tokens": TensorData(data=[6, 7], dtype="int64", shape=[2])},
)
SHORT: Final = SamplingParams(max_tokens=2)
ADAM: Final = AdamParams(learning_rate=0.01)


@pytest.fixture
def service(server: Server) -> Iterator[ServiceClient]:
    """Return a client of the server."""
    with ServiceClient(base_url=server.url, api_key=server.api_key) as client:
        yield client


def check_held(server: Server, before: tuple[Holdings, Holdings]) -> None:
    """Check that neither client nor server holds more than before."""
    for after, earlier in zip(held(server), before, strict=True):
        assert after.descriptors == earlier.descriptors
        assert after.threads <= earlier.threads + POOLED_THREADS


def held(server: Server) -> tuple[Holdings, Holdings]:
    """Return what client and server hold."""
    return Gauge.here().holdings(), Gauge(server.pid).holdings()


def fill_pools(server: Server) -> None:
    """Have the server's pools start all their threads; they start one when none happens to idle."""
    for _ in range(BURSTS):
        plugs = [Plug.open(server) for _ in range(BURST)]
        for plug in plugs:
            plug.begin(server, "GET", "/v1/loops/runs")
        for plug in plugs:
            assert plug.answer()[0] == 200
            plug.vanish()


def turn(number: int, trainer: TrainingClient, sampler: SamplingClient, folder: Path) -> None:
    """Do one operation, and what belongs to it every now and then."""
    if number % 2:
        trainer.optim_step(ADAM).result()
    else:
        trainer.forward_backward([DATUM]).result()
    if number % SAMPLE_EVERY == 0:
        sampler.sample(PROMPT, sampling_params=SHORT)
    if number % SAVE_EVERY == 0:
        trainer.save_state("latest").result()
        trainer.download_checkpoint("latest", dest_dir=folder)
        shutil.rmtree(folder)


async def turn_async(
    number: int, trainer: TrainingClient, sampler: SamplingClient, folder: Path
) -> None:
    """Do what `turn` does on an event loop."""
    if number % 2:
        await (await trainer.optim_step_async(ADAM)).result_async()
    else:
        await (await trainer.forward_backward_async([DATUM])).result_async()
    if number % SAMPLE_EVERY == 0:
        await sampler.sample_async(PROMPT, sampling_params=SHORT)
    if number % SAVE_EVERY == 0:
        await (await trainer.save_state_async("latest")).result_async()
        await asyncio.to_thread(trainer.download_checkpoint, "latest", dest_dir=folder)
        shutil.rmtree(folder)


def test_threads_leak_no_descriptor_and_no_thread(
    server: Server,
    service: ServiceClient,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    trainer = service.create_lora_training_client("mock-tiny", rank=4)
    sampler = trainer.save_weights_and_get_sampling_client("first").result()
    gauge, here = Gauge(server.pid), Gauge.here()
    fill_pools(server)
    for number in range(WARM):
        turn(number, trainer, sampler, tmp_path / "copy")
    before, rss, mine = held(server), gauge.rss_mib(), here.rss_mib()
    for number in range(WARM, NUM_OPERATIONS):
        turn(number, trainer, sampler, tmp_path / "copy")
    check_held(server, before)
    record_property("server_growth_mib", round(gauge.rss_mib() - rss, 1))
    record_property("client_growth_mib", round(here.rss_mib() - mine, 1))


async def test_event_loops_leak_no_descriptor_and_no_thread(
    server: Server,
    service: ServiceClient,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    trainer = await service.create_lora_training_client_async("mock-tiny", rank=4)
    sampler = await trainer.save_weights_and_get_sampling_client_async("first")
    gauge, here = Gauge(server.pid), Gauge.here()
    fill_pools(server)
    for number in range(WARM):
        await turn_async(number, trainer, sampler, tmp_path / "copy")
    before, rss, mine = held(server), gauge.rss_mib(), here.rss_mib()
    for number in range(WARM, NUM_OPERATIONS):
        await turn_async(number, trainer, sampler, tmp_path / "copy")
    check_held(server, before)
    record_property("server_growth_mib", round(gauge.rss_mib() - rss, 1))
    record_property("client_growth_mib", round(here.rss_mib() - mine, 1))


def test_clients_that_come_and_go_leave_nothing(server: Server) -> None:
    gauge = Gauge(server.pid)
    with Caller(server) as caller:
        caller.health()
        idle = gauge.num_sockets()

        def visit() -> None:
            with ServiceClient(base_url=server.url, api_key=server.api_key) as service:
                trainer = service.create_lora_training_client("mock-tiny", rank=4)
                trainer.optim_step(ADAM).exception()
                run_id = trainer.run_id
            status, _, content = caller.call("POST", f"/v1/loops/runs/{run_id}/deactivate")
            assert status == 200, content

        def settled() -> tuple[Holdings, Holdings]:
            """Return what is held once the server has heard that the last visitor has gone."""
            assert until(lambda: gauge.num_sockets() <= idle, caller.health)
            return held(server)

        fill_pools(server)
        for _ in range(3):
            visit()
        before = settled()
        for _ in range(20):
            visit()
        settled()
        check_held(server, before)
