"""What a large batch costs the client's CPU, all its threads counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

from loops_transport_http.bench import stub
from loops_transport_http.bench.floor import HttpxPair
from loops_transport_http.bench.measuring import interleave, spread, timed_cpu
from loops_transport_http.bench.overhead import FEATURES, FLOOR, open_stub, open_trainer
from loops_transport_http.bench.published import NOT_INSTALLED, PublishedClient
from loops_transport_http.bench.report import Bound, Row
from loops_transport_http.bench.workload import BIG, VOCABULARY, make_body, make_data, make_json

NAME: Final = "cpu"
TITLE: Final = "CPU of the client: forward_backward(...).result(), 32 x 1,024, an instant stub"

_OURS: Final = "ours, with tensors"
_BOUND: Final = Bound(figure="cpu_p50_ms", limit=3.0)


def measure(*, rounds: int, client: PublishedClient | None) -> Iterator[Row]:
    """Yield a row for each client, all of them taken in turns."""
    data = make_data(BIG, vocabulary=VOCABULARY)
    body = make_json(make_body(data))
    with ExitStack() as stack:
        plain = open_stub(stack, features=None)
        rich = open_stub(stack, features=FEATURES)
        raw = stack.enter_context(HttpxPair(stub.trainer_url(plain, BIG), body))
        contenders = [timed_cpu(f"{FLOOR}, JSON made before", raw)]
        for name, url in ((_OURS, rich), ("ours, JSON", plain)):
            trainer = open_trainer(stack, url, BIG)
            contenders.append(
                timed_cpu(name, lambda trainer=trainer: trainer.forward_backward(data).result())
            )
        if client is not None:
            client.open(plain, BIG, vocabulary=VOCABULARY)
            contenders.append(client.contender(by="cpu_s"))
        seconds = interleave(contenders, rounds=rounds)
    for name, values in seconds.items():
        figures = {f"cpu_{key}": value for key, value in spread(values).items()}
        bounds = (_BOUND,) if name == _OURS else ()
        yield Row(comparison=NAME, what=name, figures=figures, bounds=bounds)
    if client is None:
        yield Row(comparison=NAME, what="a published client", note=NOT_INSTALLED)
