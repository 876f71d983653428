"""What a client costs: one operation from call to result, beside one POST and one GET."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final, cast

from loops_core.client.service import ServiceClient
from loops_core.client.training import TrainingClient
from loops_transport_http.bench import stub
from loops_transport_http.bench.floor import HttpxPair, StandardPair
from loops_transport_http.bench.measuring import Contender, beside, interleave, spread, timed
from loops_transport_http.bench.processes import Child
from loops_transport_http.bench.published import NOT_INSTALLED, PublishedClient
from loops_transport_http.bench.report import Bound, Row
from loops_transport_http.bench.workload import TINY, BatchSize, make_body, make_data, make_json

NAME: Final = "overhead"
TITLE: Final = "Client overhead: forward_backward(...).result(), 1 x 8, against an instant stub"

FEATURES: Final = "tensors/1 poll/1 body/67108864"
"""What the stub advertises that stands for a server of ours."""

FLOOR: Final = "raw httpx, POST + GET"
BOUNDS: Final = (Bound(figure="x_p50", limit=1.5), Bound(figure="x_p99", limit=2.0))


def measure(*, rounds: int, client: PublishedClient | None) -> Iterator[Row]:
    """Yield a row for each client, all of them taken in turns."""
    body = make_json(make_body(make_data(TINY)))
    with ExitStack() as stack:
        plain = open_stub(stack, features=None)
        rich = open_stub(stack, features=FEATURES)
        url = stub.trainer_url(plain)
        contenders = [
            timed(FLOOR, stack.enter_context(HttpxPair(url, body))),
            timed("http.client, POST + GET", stack.enter_context(StandardPair(url, body))),
            call_of(open_trainer(stack, plain), TINY, "ours, a stock server"),
            call_of(open_trainer(stack, rich), TINY, "ours, a server with tensors and polls"),
        ]
        if client is not None:
            client.open(plain)
            contenders.append(client.contender())
        seconds = interleave(contenders, rounds=rounds, warmup=20)
    for name, values in seconds.items():
        yield Row(
            comparison=NAME,
            what=name,
            figures={**spread(values), **beside(values, seconds[FLOOR])},
            bounds=BOUNDS if name.startswith("ours") else (),
        )
    if client is None:
        yield Row(comparison=NAME, what="a published client", note=NOT_INSTALLED)


def open_stub(stack: ExitStack, *, features: str | None) -> str:
    """Return the address of a stub that lives as long as the stack."""
    command = [sys.executable, "-m", stub.__name__]
    given = [] if features is None else ["--features", features]
    return cast("str", stack.enter_context(Child([*command, *given])).started["url"])


def open_trainer(stack: ExitStack, url: str, size: BatchSize = TINY) -> TrainingClient:
    """Return a training client of ours at a stub that answers with results of a size."""
    service = stack.enter_context(ServiceClient(base_url=url, api_key="key"))
    return service.create_lora_training_client(stub.model_name(size), rank=stub.RANK)


def call_of(trainer: TrainingClient, size: BatchSize, name: str) -> Contender:
    """Return one call with a batch of a size, and the wait for its result."""
    data = make_data(size)
    return timed(name, lambda: trainer.forward_backward(data).result())
