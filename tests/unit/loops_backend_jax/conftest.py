"""What the tests of the trainer share: a small model, loaded once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.numerics.cases import GOLDEN

from loops_backend_jax.compilation import keep_compiled_programs
from loops_backend_jax.config import BackendSettings
from loops_backend_jax.losses import make_losses
from loops_backend_jax.resolvers.cache import make_cache_root
from loops_backend_jax.trainer import JaxTrainer
from loops_backend_jax.weights.load import load_base_model
from loops_core.protocols import TrainerSpec


@pytest.fixture(scope="session", autouse=True)
def compiled_programs() -> None:
    """Keep what the tests compile, where the backend keeps it too."""
    keep_compiled_programs(make_cache_root() / "compiled")


@pytest.fixture(scope="session")
def open_trainer() -> Callable[[], JaxTrainer]:
    """Return a function that opens another trainer on one shared model of 320 tokens."""
    base = load_base_model(GOLDEN / "qwen3", BackendSettings())
    spec = TrainerSpec(base_model="tiny", model_dir=GOLDEN / "qwen3", max_seq_len=64)
    return lambda: JaxTrainer(base, spec, make_losses())


@pytest.fixture
def trainer(open_trainer: Callable[[], JaxTrainer]) -> JaxTrainer:
    """Return a trainer with a fresh adapter of rank 4."""
    opened = open_trainer()
    opened.init(rank=4, seed=0)
    return opened
