"""One client for each backend, opened as a user opens it; every test here runs on all of them."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from loops_core import AdamParams, Datum, ModelInput, ServiceClient, TensorData, TrainingClient

BACKENDS: Final = {"mock": "mock-tiny", "jax": "loops-tiny"}
"""The backends under test and a small base model of each."""

ADAM: Final = AdamParams(learning_rate=1e-2)


@dataclass(frozen=True, slots=True)
class Setup:
    """A backend, a directory for its data, and a base model.

    Attributes:
        url: what a ServiceClient is opened on; the same directory in every process that uses it.
        base_model: a small model of the backend.
        vocab_size: token ids are below this.
    """

    url: str
    base_model: str
    vocab_size: int


@pytest.fixture(params=sorted(BACKENDS))
def setup(request: pytest.FixtureRequest, tmp_path: Path) -> Setup:
    backend = str(request.param)
    if importlib.util.find_spec(f"loops_{'backend_' if backend == 'jax' else ''}{backend}") is None:
        pytest.skip(f"the distribution with backend {backend} is not installed")
    url = f"inproc:{backend}?data_dir={tmp_path / 'data'}"
    return Setup(url=url, base_model=BACKENDS[backend], vocab_size=32)


@pytest.fixture
def service(setup: Setup) -> Iterator[ServiceClient]:
    with ServiceClient(base_url=setup.url) as client:
        yield client


@pytest.fixture
def trainer(service: ServiceClient, setup: Setup) -> Iterator[TrainingClient]:
    with service.create_lora_training_client(setup.base_model, rank=4, seed=7) as client:
        yield client


def make_datum(tokens: list[int], *, ignored: int = 0, **inputs: np.ndarray) -> Datum:
    """Return a datum that predicts each next token, except for the first `ignored` positions."""
    targets = np.asarray(tokens[1:], dtype=np.int64)
    targets[:ignored] = -100
    tensors = {"target_tokens": targets, **inputs}
    return Datum(
        model_input=ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={name: TensorData.from_numpy(array) for name, array in tensors.items()},
    )


@pytest.fixture
def batch(setup: Setup) -> list[Datum]:
    rng = np.random.default_rng(0)
    lengths = (9, 4, 17)
    return [
        make_datum(rng.integers(3, setup.vocab_size, n).tolist(), ignored=n // 3) for n in lengths
    ]


@pytest.fixture
def state_digest(tmp_path: Path) -> Callable[[TrainingClient], str]:
    """Return a function that tells a run's complete state by the bytes that `save_state` writes."""
    count = iter(range(1_000))

    def digest(client: TrainingClient) -> str:
        name = f"digest-{next(count)}"
        client.save_state(name).result()
        folder = tmp_path / name
        client.download_checkpoint(name=name, target="trainer", dest_dir=folder)
        return folder_digest(folder)

    return digest


def folder_digest(folder: Path) -> str:
    """Return one hash of all files below a folder, names and bytes."""
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        found.update(path.relative_to(folder).as_posix().encode())
        found.update(path.read_bytes())
    return found.hexdigest()
