"""What the framework costs without a wire: an instant operation in process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Final

from loops_core.client.service import ServiceClient
from loops_core.plugins import Plugins
from loops_transport_http.bench import instant
from loops_transport_http.bench.measuring import interleave, spread, timed
from loops_transport_http.bench.report import Bound, Row
from loops_transport_http.bench.workload import BIG, TINY, BatchSize, make_data

NAME: Final = "inprocess"
TITLE: Final = "In process: forward_backward(...).result(), 1 x 8, a backend that computes nothing"

_BOUND: Final = Bound(figure="p50_ms", limit=0.2)


def measure(*, rounds: int) -> Iterator[Row]:
    """Yield a row for a log in memory and one for a log in a file, and one for a large batch.

    One after the other: what a log in a file does behind an operation, such as a snapshot, would
    otherwise be counted for the others.
    """
    with tempfile.TemporaryDirectory(prefix="loops-bench-") as folder:
        seconds = _measure(":memory:", TINY, rounds)
        yield Row(comparison=NAME, what="log in memory", figures=spread(seconds), bounds=(_BOUND,))
        seconds = _measure(folder, TINY, rounds)
        yield Row(comparison=NAME, what="log in a file", figures=spread(seconds))
        seconds = _measure(":memory:", BIG, max(1, rounds // 20))
        yield Row(comparison=NAME, what=f"{BIG}, log in memory", figures=spread(seconds))


def _measure(data_dir: str, size: BatchSize, rounds: int) -> list[float]:
    data = make_data(size)
    url = f"inproc:{instant.NAME}?data_dir={data_dir}"
    with ServiceClient(base_url=url, plugins=Plugins.load(extra=[instant])) as service:
        trainer = service.create_lora_training_client(instant.NAME)
        call = timed(data_dir, lambda: trainer.forward_backward(data).result())
        return interleave([call], rounds=rounds, warmup=20)[data_dir]
