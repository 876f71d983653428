"""What an operation takes on a real server: our client beside raw requests, a run for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

from loops_core.client.service import ServiceClient
from loops_transport_http.bench import instant
from loops_transport_http.bench.floor import HttpxPair
from loops_transport_http.bench.measuring import beside, interleave, spread, timed
from loops_transport_http.bench.overhead import BOUNDS, FLOOR, call_of
from loops_transport_http.bench.report import Row
from loops_transport_http.bench.servers import Server, open_server
from loops_transport_http.bench.workload import TINY, make_body, make_data, make_json
from loops_transport_http.wire import names

NAME: Final = "served"
TITLE: Final = "On `loops serve`: forward_backward(...).result(), 1 x 8"

_SERVERS: Final = (
    ("instant backend, log in memory", instant.NAME, instant.NAME, True),
    ("instant backend, log in a file", instant.NAME, instant.NAME, False),
    ("mock backend, log in a file", "mock", "mock-tiny", False),
)


def measure(*, rounds: int) -> Iterator[Row]:
    """Yield rows for a backend that computes nothing, and for the mock."""
    for what, backend, base_model, in_memory in _SERVERS:
        with open_server(backend=backend, base_model=base_model, in_memory=in_memory) as server:
            yield from _measure(server, base_model, what, rounds)


def _measure(server: Server, base_model: str, what: str, rounds: int) -> Iterator[Row]:
    body = make_json(make_body(make_data(TINY)))
    with ExitStack() as stack:
        service = stack.enter_context(ServiceClient(base_url=server.url, api_key=server.api_key))
        theirs, ours = (service.create_lora_training_client(base_model, rank=4) for _ in range(2))
        headers = {**server.headers, names.RUN_ID: theirs.run_id or ""}
        raw = HttpxPair(server.trainer_url(theirs.run_id or ""), body, headers=headers)
        floor = f"{what}: {FLOOR}"
        contenders = [
            timed(floor, stack.enter_context(raw)),
            call_of(ours, TINY, f"{what}: ours"),
        ]
        seconds = interleave(contenders, rounds=rounds, warmup=20)
    for name, values in seconds.items():
        figures = {**spread(values), **beside(values, seconds[floor])}
        bounds = () if name == floor else BOUNDS
        yield Row(comparison=NAME, what=name, figures=figures, bounds=bounds)
