"""Thousands of futures that wait at once: what the service answers others meanwhile."""

from __future__ import annotations

import asyncio
import http.client
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Final
from urllib.parse import urlsplit

from loops_core.client.service import ServiceClient
from loops_core.client.training import TrainingClient
from loops_transport_http.bench import instant
from loops_transport_http.bench.measuring import Contender, interleave, spread, timed
from loops_transport_http.bench.report import Bound, Row
from loops_transport_http.bench.servers import Server, allow_connections, open_instant_server
from loops_transport_http.bench.workload import TINY, make_body, make_data, make_json
from loops_transport_http.wire import names

NAME: Final = "crowd"
TITLE: Final = "Futures that wait at once: a served instant backend behind a closed gate"

_HEALTH: Final = "GET /health"
_SUBMIT: Final = "POST forward_backward"
_CALL: Final = "submit by our client"
_BOUNDS: Final[Mapping[str, float]] = {_HEALTH: 50.0, _SUBMIT: 100.0, _CALL: 100.0}
_ANSWER_S: Final = 120.0
_SETTLE_S: Final = 1.0
"""How long the held requests may take to arrive."""


def measure(*, num_waiting: int, rounds: int) -> Iterator[Row]:
    """Yield rows for clients that share a poll, and for as many held requests."""
    yield from _shared(num_waiting, rounds)
    if allow_connections(num_waiting):
        yield from _held(num_waiting, rounds)
    else:
        note = f"this machine allows fewer open files than {num_waiting:,} connections need"
        yield Row(comparison=NAME, what=f"{num_waiting:,} held requests", note=note)


def _shared(num_waiting: int, rounds: int) -> Iterator[Row]:
    """Let futures of one of our clients wait, all on one event loop."""
    who = f"{num_waiting:,} futures of our client"
    with ExitStack() as stack:
        server, trainer = _open(stack)
        before = server.rss_mib()
        seconds, submit_s, growth, drain_s = asyncio.run(
            _wait_together(server, trainer, num_waiting, rounds, before)
        )
    yield from _probes(who, seconds)
    rate = {"operations_per_s": num_waiting / submit_s}
    yield Row(comparison=NAME, what=f"{who}: submitted one by one", figures=rate)
    rate = {"operations_per_s": num_waiting / drain_s}
    yield Row(comparison=NAME, what=f"{who}: from the gate to the last result", figures=rate)
    yield Row(comparison=NAME, what=f"{who}: the server", figures={"growth_mib": growth})


async def _wait_together(
    server: Server, trainer: TrainingClient, num_waiting: int, rounds: int, before: float
) -> tuple[dict[str, list[float]], float, float, float]:
    data = make_data(TINY)
    held = await trainer.forward_backward_async(data, loss_fn_config={instant.HOLD: True})
    start = time.perf_counter()
    futures = [await trainer.forward_backward_async(data) for _ in range(num_waiting)]
    submit_s = time.perf_counter() - start
    waits = [asyncio.create_task(future.result_async()) for future in (held, *futures)]
    await asyncio.sleep(0)
    with _somebody_else(server, trainer.run_id or "") as contenders:
        contenders.append(timed(_CALL, lambda: trainer.forward_backward(data)))
        seconds = await asyncio.to_thread(lambda: interleave(contenders, rounds=rounds))
    growth = server.rss_mib() - before
    assert not any(wait.done() for wait in waits)
    start = time.perf_counter()
    server.open_gate()
    await asyncio.gather(*waits)
    return seconds, submit_s, growth, time.perf_counter() - start


def _held(num_waiting: int, rounds: int) -> Iterator[Row]:
    """Let a held request wait for each of as many operations, as published clients do.

    Each has a connection of its own.
    """
    who = f"{num_waiting:,} held requests"
    with ExitStack() as stack:
        server, trainer = _open(stack)
        before = server.rss_mib()
        data = make_data(TINY)
        held = trainer.forward_backward(data, loss_fn_config={instant.HOLD: True})
        futures = [held, *(trainer.forward_backward(data) for _ in range(num_waiting - 1))]
        ids = [future.operation_id for future in futures]
        seconds, rss = asyncio.run(hold_requests(server, trainer.run_id or "", ids, rounds))
    yield from _probes(who, seconds)
    growth = {"growth_mib": rss - before}
    yield Row(comparison=NAME, what=f"{who}: the server", figures=growth)


async def hold_requests(
    server: Server, run_id: str, ids: Sequence[str], rounds: int
) -> tuple[dict[str, list[float]], float]:
    """Return what others took while a request was held for each operation, and the memory then."""
    url = urlsplit(server.trainer_url(run_id))
    fields = {"Host": url.netloc, **server.headers, names.RUN_ID: run_id}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())

    async def wait(operation_id: str) -> bytes:
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        line = f"GET {url.path}/operations/{operation_id} HTTP/1.1\r\n"
        writer.write(f"{line}{head}\r\n".encode())
        status = await reader.readline()
        writer.close()
        return status

    waits = [asyncio.create_task(wait(operation_id)) for operation_id in ids]
    await asyncio.sleep(_SETTLE_S)
    with _somebody_else(server, run_id) as contenders:
        seconds = await asyncio.to_thread(lambda: interleave(contenders, rounds=rounds))
    rss = server.rss_mib()
    server.open_gate()
    statuses = await asyncio.gather(*waits)
    wrong = [status for status in statuses if b" 200 " not in status]
    assert not wrong, f"{len(wrong)} held requests were answered with {wrong[0]!r}"
    return seconds, rss


def _open(stack: ExitStack) -> tuple[Server, TrainingClient]:
    server = stack.enter_context(open_instant_server())
    service = stack.enter_context(ServiceClient(base_url=server.url, api_key=server.api_key))
    return server, service.create_lora_training_client(instant.NAME)


@contextmanager
def _somebody_else(server: Server, run_id: str) -> Generator[list[Contender]]:
    """Yield the raw requests of somebody else, each on one connection of its own."""
    body = make_json(make_body(make_data(TINY)))
    url = urlsplit(server.trainer_url(run_id))
    headers = {**server.headers, names.RUN_ID: run_id}

    def connection() -> http.client.HTTPConnection:
        return http.client.HTTPConnection(url.hostname or "", url.port, timeout=_ANSWER_S)

    with closing(connection()) as reading, closing(connection()) as writing:

        def ask() -> None:
            reading.request("GET", f"{url.path}/health", headers=headers)
            _check(reading.getresponse())

        def submit() -> None:
            sent = {**headers, "Content-Type": names.JSON}
            writing.request("POST", f"{url.path}/forward_backward", body, sent)
            _check(writing.getresponse())

        yield [timed(_HEALTH, ask), timed(_SUBMIT, submit)]


def _check(answer: http.client.HTTPResponse) -> None:
    content = answer.read()
    assert answer.status < 300, f"{answer.status}: {content!r}"


def _probes(who: str, seconds: Mapping[str, list[float]]) -> Iterator[Row]:
    for name, values in seconds.items():
        bounds = (Bound(figure="p99_ms", limit=_BOUNDS[name]),)
        figures = spread(values)
        yield Row(comparison=NAME, what=f"{who}: {name}", figures=figures, bounds=bounds)
