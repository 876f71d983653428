"""Clients of each backend in process and over HTTP, opened as users open them.

Every test here runs on all of them.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from tests.serving import KEY, Server

from loops_core import AdamParams, Datum, ModelInput, ServiceClient, TensorData, TrainingClient

BACKENDS: Final = {"mock": "mock-tiny", "jax": "loops-tiny"}
"""The backends under test and a small base model of each."""

NEEDED: Final[dict[str, list[str]]] = {"inproc": [], "http": ["loops_transport_http"]}

ADAM: Final = AdamParams(learning_rate=1e-2)


TRANSPORTS: Final = ("inproc", "http")


@dataclass(frozen=True, slots=True)
class Setup:
    """A backend, a way to it, and a base model.

    Attributes:
        url: what a ServiceClient is opened on; the same data in every process that uses it.
        base_model: a small model of the backend.
        vocab_size: token ids are below this.
        transport: how calls get there.
    """

    url: str
    base_model: str
    vocab_size: int
    transport: str


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Return a function that tells where a backend is served, by a process for all tests."""
    servers: dict[str, Server] = {}

    def url_of(backend: str) -> str:
        if backend not in servers:
            servers[backend] = Server(
                tmp_path_factory.mktemp("served") / backend,
                backend=backend,
                base_models=[BACKENDS[backend]],
                options=["--allow-local-paths"],
            )
        return servers[backend].url

    yield url_of
    for server in servers.values():
        server.stop()


@pytest.fixture(params=[f"{t}-{b}" for t in TRANSPORTS for b in sorted(BACKENDS)])
def setup(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    served: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Setup:
    transport, backend = str(request.param).split("-")
    for package in (f"loops_{'backend_' if backend == 'jax' else ''}{backend}", *NEEDED[transport]):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the distribution {package} is not installed")
    if transport == "http":
        monkeypatch.setenv("LOOPS_API_KEY", KEY)
        url = served(backend)
    else:
        url = f"inproc:{backend}?data_dir={tmp_path / 'data'}"
    return Setup(url=url, base_model=BACKENDS[backend], vocab_size=32, transport=transport)


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
