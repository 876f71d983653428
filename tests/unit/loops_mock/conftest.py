"""What the tests of the mock share: a small model, trainers on it, and data for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from loops_core.protocols import BackendConfig, SamplerSpec, TrainerSpec
from loops_core.types.datum import Datum, ModelInput
from loops_core.types.tensor import TensorData
from loops_core.types.training import AdamParams
from loops_mock.backend import MockBackend
from loops_mock.config import ModelConfig
from loops_mock.sampler import MockSampler
from loops_mock.trainer import MockTrainer

MakeDatum = Callable[..., Datum]


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    """A model small enough to differentiate number by number."""
    return ModelConfig(
        name="mock-test", vocab_size=11, hidden_size=5, window=3, max_position_embeddings=32
    )


@pytest.fixture
def model_dir(tmp_path: Path, config: ModelConfig) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text(config.model_dump_json())
    return directory


@pytest.fixture
def make_trainer(model_dir: Path) -> Callable[[], MockTrainer]:
    """Open trainers without a state."""
    backend = MockBackend(BackendConfig())
    return lambda: backend.open_trainer(TrainerSpec(base_model="mock-test", model_dir=model_dir))


@pytest.fixture
def trainer(make_trainer: Callable[[], MockTrainer], data: list[Datum]) -> MockTrainer:
    """A trainer in the middle of its work: one step done, a gradient pending."""
    opened = make_trainer()
    opened.init(rank=3, seed=7)
    for step in range(2):
        opened.forward_backward(data, loss_fn="cross_entropy", loss_fn_config={})
        if step == 0:
            opened.optim_step(AdamParams(learning_rate=0.05))
    return opened


@pytest.fixture
def sampler(model_dir: Path) -> MockSampler:
    return MockBackend(BackendConfig()).open_sampler(
        SamplerSpec(base_model="mock-test", model_dir=model_dir)
    )


@pytest.fixture(scope="session")
def make_datum() -> MakeDatum:
    """Make a datum of tokens, targets (absent where None) and weights."""
    return datum


@pytest.fixture(scope="session")
def data() -> list[Datum]:
    """Three datums: plain, with ignored targets, and with weights of both signs."""
    return [
        datum([1, 2, 3, 4], [2, 3, 4, 5]),
        datum([6, 7, 8], [-100, 8, 9]),
        datum([9, 10, 0, 1, 2], [10, 0, 1, 2, -100], weights=[0.5, -0.25, 0.0, 2.0, 1.0]),
    ]


def datum(
    tokens: list[int], targets: list[int] | None = None, *, weights: list[float] | None = None
) -> Datum:
    inputs: dict[str, TensorData] = {}
    if targets is not None:
        inputs["target_tokens"] = TensorData.from_numpy(np.asarray(targets, dtype=np.int64))
    if weights is not None:
        inputs["weights"] = TensorData.from_numpy(np.asarray(weights, dtype=np.float32))
    return Datum(model_input=ModelInput.from_ints(tokens), loss_fn_inputs=inputs)
