"""Programs that are recorded and replayed, and where they run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np

from loops_core import (
    AdamParams,
    Datum,
    ForwardBackwardFuture,
    ModelInput,
    SamplingParams,
    ServiceClient,
    TensorData,
)
from loops_mock.cassette import record

MOCK: Final = "inproc:mock?data_dir=:memory:"
NOWHERE: Final = "https://nowhere.invalid"
"""A URL that nothing answers: only a replay can."""


def make_datum(seed: int, *, length: int = 20) -> Datum:
    """Return a datum of its own for each seed."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 250, length + 1)
    inputs = {
        "target_tokens": TensorData.from_numpy(tokens[1:]),
        "weights": TensorData.from_numpy(rng.random(length).astype(np.float32)),
    }
    return Datum(model_input=ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs)


def train(url: str | None, *, steps: int = 3, seed: int = 0, rank: int = 4) -> list[object]:
    """Return everything that a short run says: losses, metrics, samples, versions."""
    said: list[object] = []
    with ServiceClient(base_url=url) as service:
        trainer = service.create_lora_training_client("mock-tiny", rank=rank, seed=0)
        for step in range(steps):
            data = [make_datum(seed + 10 * step + row) for row in range(2)]
            passing = trainer.forward_backward(data)
            stepping = trainer.optim_step(AdamParams(learning_rate=1e-2))
            said += [stepping.result(), passing.result(), trainer.policy_version]
            sampler = trainer.save_weights_and_get_sampling_client(f"v{step}").result()
            said.append(sampler.sample(ModelInput.from_ints([1, 2, 3]), 2, _params(step)))
            said.append(trainer.policy_version)
        said.append([each.checkpoint_id for each in trainer.list_checkpoints()])
    return said


def crowd(url: str, *, threads: int, order: list[int]) -> dict[int, object]:
    """Return what each of many passes brought, submitted by threads and read in an order."""
    with (
        ServiceClient(base_url=url) as service,
        service.create_lora_training_client("mock-tiny", rank=4, seed=0) as trainer,
        ThreadPoolExecutor(threads) as pool,
    ):

        def submit(number: int) -> ForwardBackwardFuture:
            return trainer.forward([make_datum(number)])

        def read(place: int) -> tuple[int, object]:
            return order[place], passes[place].result()

        passes = list(pool.map(submit, order))
        shuffled = sorted(range(len(order)), key=lambda place: (place * 7919) % 101)
        return dict(pool.map(read, shuffled))


def recorded(path: Path, **options: int) -> list[object]:
    """Record the short run on the mock, and return what it said."""
    with record(path):
        return train(MOCK, **options)


def _params(step: int) -> SamplingParams:
    return SamplingParams(max_tokens=15, seed=step)
