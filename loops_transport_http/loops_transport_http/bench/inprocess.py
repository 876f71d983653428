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
from loops_transport_http.bench.workload import TINY, make_data

NAME: Final = "inprocess"
TITLE: Final = "In process: forward_backward(...).result(), 1 x 8, a backend that computes nothing"

_BOUND: Final = Bound(figure="p50_ms", limit=0.2)


def measure(*, rounds: int) -> Iterator[Row]:
    """Yield a row for a log in memory and one for a log in a file, taken in turns."""
    data = make_data(TINY)
    with tempfile.TemporaryDirectory(prefix="loops-bench-") as folder:
        plugins = Plugins.load(extra=[instant])
        url = f"inproc:{instant.NAME}?data_dir="
        with (
            ServiceClient(base_url=f"{url}:memory:", plugins=plugins) as memory,
            ServiceClient(base_url=f"{url}{folder}/data", plugins=plugins) as file,
        ):
            contenders = [
                timed(name, lambda trainer=trainer: trainer.forward_backward(data).result())
                for name, trainer in (
                    ("log in memory", memory.create_lora_training_client(instant.NAME)),
                    ("log in a file", file.create_lora_training_client(instant.NAME)),
                )
            ]
            seconds = interleave(contenders, rounds=rounds, warmup=20)
    for name, values in seconds.items():
        bounds = (_BOUND,) if name == "log in memory" else ()
        yield Row(comparison=NAME, what=name, figures=spread(values), bounds=bounds)
