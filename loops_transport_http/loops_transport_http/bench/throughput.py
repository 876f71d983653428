"""How many operations a second go through, by how many are outstanding."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

from loops_core.client.service import ServiceClient
from loops_core.client.training import TrainingClient
from loops_transport_http.bench import instant
from loops_transport_http.bench.report import Row
from loops_transport_http.bench.servers import open_instant_server
from loops_transport_http.bench.workload import TINY, make_data

NAME: Final = "throughput"
TITLE: Final = "Operations a second, 1 x 8, by how many are outstanding: a served instant backend"


def measure(*, outstanding: Sequence[int], num_operations: int, repeats: int) -> Iterator[Row]:
    """Yield a row for threads and one for tasks at each number outstanding; the best of some."""
    with ExitStack() as stack:
        server = stack.enter_context(open_instant_server())
        service = stack.enter_context(ServiceClient(base_url=server.url, api_key=server.api_key))
        trainer = service.create_lora_training_client(instant.NAME)
        for count in outstanding:
            each = max(2, num_operations // count)
            by_threads, by_tasks = 0.0, 0.0
            for _ in range(repeats):
                by_threads = max(by_threads, _by_threads(trainer, count, each))
                by_tasks = max(by_tasks, asyncio.run(_by_tasks(trainer, count, each)))
            for kind, rate in (("threads", by_threads), ("tasks", by_tasks)):
                figures = {"operations_per_s": rate}
                yield Row(comparison=NAME, what=f"{count} {kind}", figures=figures)


def _by_threads(trainer: TrainingClient, count: int, each: int) -> float:
    data = make_data(TINY)

    def work() -> None:
        for _ in range(each):
            trainer.forward_backward(data).result()

    with ThreadPoolExecutor(count) as threads:
        start = time.perf_counter()
        for done in [threads.submit(work) for _ in range(count)]:
            done.result()
        return count * each / (time.perf_counter() - start)


async def _by_tasks(trainer: TrainingClient, count: int, each: int) -> float:
    data = make_data(TINY)

    async def work() -> None:
        for _ in range(each):
            await (await trainer.forward_backward_async(data))

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(work())
    return count * each / (time.perf_counter() - start)
