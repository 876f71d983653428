"""What the numeric tests share: golden cases, and one small model loaded once."""

from __future__ import annotations

import numpy as np
import pytest
from tests.numerics.cases import GOLDEN, GoldenCase, find_smollm2, golden_data, write_golden_adapter

from loops_backend_jax.compilation import keep_compiled_programs
from loops_backend_jax.config import BackendSettings
from loops_backend_jax.resolvers.cache import make_cache_root
from loops_backend_jax.weights.load import BaseModel, load_base_model


@pytest.fixture(scope="session", autouse=True)
def compiled_programs() -> None:
    """Keep what the tests compile, where the backend keeps it too."""
    keep_compiled_programs(make_cache_root() / "compiled")


@pytest.fixture(scope="session")
def tiny() -> BaseModel:
    """Return a tied model of three layers with normed queries and keys."""
    return load_base_model(GOLDEN / "qwen3", BackendSettings())


@pytest.fixture(scope="session", params=["llama3", "llama_bias", "qwen3", "smollm2"])
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GoldenCase:
    """Return each golden case in turn; the real model's is skipped where it cannot be had."""
    name: str = request.param
    with np.load(GOLDEN / name / "golden.npz") as file:
        arrays = dict(file)
    model_dir = GOLDEN / name if name != "smollm2" else find_smollm2()
    base = load_base_model(model_dir, BackendSettings())
    adapter_dir = tmp_path_factory.mktemp(name)
    write_golden_adapter(adapter_dir, base.config)
    return GoldenCase(
        arrays=arrays,
        model_dir=model_dir,
        base=base,
        adapter_dir=adapter_dir,
        data=golden_data(arrays),
    )
