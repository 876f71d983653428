"""A training that is recorded and replayed: operations of one trainer, read in any order.

Run as a script it replays a cassette where neither JAX nor an HTTP library can be imported:
`python program.py URL OPERATIONS THREADS`. It prints the digest of what it read.
"""

from __future__ import annotations

import hashlib
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from loops_core import AdamParams, Datum, ModelInput, OperationFuture, ServiceClient, TensorData
from loops_core.types.base import WireModel

ROWS, LENGTH = 8, 128
ABSENT = ("jax", "flax", "torch", "transformers", "httpx")


@dataclass(frozen=True, slots=True)
class Training:
    """A training of so many operations, half of them passes, half of them steps.

    Attributes:
        operations: how many.
        base_model: on what.
    """

    operations: int
    base_model: str = "loops-tiny"

    def run(self, url: str, *, threads: int = 1, seed: int = 0) -> list[WireModel]:
        """Return every result; many threads poll them in a shuffled order."""
        with ServiceClient(base_url=url) as service:
            trainer = service.create_lora_training_client(self.base_model, rank=4, seed=0)
            futures: list[OperationFuture[WireModel]] = []
            for step in range(self.operations // 2):
                futures.append(trainer.forward_backward(batch(step)))  # type: ignore[arg-type]  # its result is a WireModel
                futures.append(trainer.optim_step(AdamParams(learning_rate=1e-3)))  # type: ignore[arg-type]  # likewise
                if threads == 1:
                    futures[-1].result()
            order = random.Random(seed).sample(range(len(futures)), len(futures))

            def read(place: int) -> tuple[int, WireModel]:
                return place, futures[place].result()

            with ThreadPoolExecutor(threads) as pool:
                results = dict(pool.map(read, order))
        return [results[place] for place in range(len(futures))]

    def raw_bytes(self, results: list[WireModel]) -> int:
        """Return the bytes of the arrays of the training: token ids, loss inputs, loss outputs."""
        sizes = [
            8 * datum.model_input.length
            + sum(tensor.data.nbytes for tensor in datum.loss_fn_inputs.values())
            for step in range(self.operations // 2)
            for datum in batch(step)
        ]
        outputs = [row for each in results for row in getattr(each, "loss_fn_outputs", [])]
        return sum(sizes) + sum(tensor.data.nbytes for row in outputs for tensor in row.values())


@cache
def batch(step: int) -> list[Datum]:
    """Return the data of a step; made once, so that making it is no part of what is timed."""
    rng = np.random.default_rng(step)
    tokens = rng.integers(3, 250, (ROWS, LENGTH + 1))
    weights = rng.random((ROWS, LENGTH), dtype=np.float32)
    return [
        Datum(
            model_input=ModelInput.from_ints(row[:-1]),
            loss_fn_inputs={
                "target_tokens": TensorData.from_numpy(row[1:]),
                "weights": TensorData.from_numpy(weight),
            },
        )
        for row, weight in zip(tokens, weights, strict=True)
    ]


def digest(results: list[WireModel]) -> str:
    """Return one hash of results."""
    found = hashlib.sha256()
    for result in results:
        found.update(result.model_dump_json().encode())
    return found.hexdigest()


def record_to(path: Path, training: Training, url: str) -> list[WireModel]:
    """Record the training, and return its results."""
    from loops_mock.cassette import record

    with record(path):
        return training.run(url)


def main(url: str, operations: int, threads: int) -> None:
    """Replay without what a replay does not need."""
    for name in ABSENT:
        assert name not in sys.modules, name
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it fails from now on
    results = Training(operations).run(url, threads=threads)
    sys.stdout.write(digest(results) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
