"""Golden cases, and adapters and datums made from names and arrays."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]  # PathLike

from loops_backend_jax.config import ModelConfig
from loops_backend_jax.lora.adapter import LINEAR_TARGETS, adapter_sites
from loops_backend_jax.resolvers.cache import make_cache_root
from loops_backend_jax.resolvers.smollm2 import resolve_smollm2
from loops_backend_jax.weights.load import BaseModel
from loops_core.errors import UnreachableError, UnsupportedError
from loops_core.types.datum import Datum, ModelInput
from loops_core.types.tensor import TensorData

GOLDEN = Path(__file__).parents[1] / "golden"
RANK, ALPHA = 8, 16


@dataclass(frozen=True)
class GoldenCase:
    """One folder of golden arrays with the model they belong to.

    Attributes:
        arrays: as ORIGIN.md describes them.
        model_dir: the model's directory.
        base: the model, loaded in float32.
        adapter_dir: the adapter in PEFT format: rank 8, alpha 16, all linear layers.
        data: the three rows as datums.
    """

    arrays: dict[str, np.ndarray]
    model_dir: Path
    base: BaseModel
    adapter_dir: Path
    data: list[Datum]


def find_smollm2() -> Path:
    try:
        found = resolve_smollm2("smollm2", make_cache_root())
    except (UnreachableError, UnsupportedError) as error:
        pytest.skip(f"the real model cannot be had here: {error}")
    assert found is not None
    return found


def write_golden_adapter(directory: Path, config: ModelConfig) -> None:
    """Write the adapter that ORIGIN.md describes as a PEFT directory, from its definition alone."""
    tensors: dict[str, np.ndarray] = {}
    for site in adapter_sites(config, LINEAR_TARGETS):
        for name in site.module_names():
            lora_a = _draw(name, "lora_A").standard_normal((RANK, site.fan_in))
            lora_b = _draw(name, "lora_B").standard_normal((site.fan_out, RANK))
            prefix = f"base_model.model.{name}"
            tensors[f"{prefix}.lora_A.weight"] = (lora_a / np.sqrt(site.fan_in)).astype("f4")
            tensors[f"{prefix}.lora_B.weight"] = (lora_b * 0.02).astype("f4")
    save_file(tensors, directory / "adapter_model.safetensors")
    fields = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": list(LINEAR_TARGETS),
    }
    (directory / "adapter_config.json").write_text(json.dumps(fields))


def _draw(*names: str) -> np.random.Generator:
    return np.random.default_rng([0, *(zlib.crc32(name.encode()) for name in names)])


def golden_data(arrays: dict[str, np.ndarray]) -> list[Datum]:
    rows = [{"target_tokens": arrays[f"row{i}_targets"]} for i in range(3)]
    rows[1]["weights"] = arrays["row1_weights"]
    return [make_datum(arrays[f"row{i}_tokens"], **row) for i, row in enumerate(rows)]


def make_datum(tokens: Sequence[int] | np.ndarray, **inputs: np.ndarray) -> Datum:
    return Datum(
        model_input=ModelInput.from_ints([int(token) for token in tokens]),
        loss_fn_inputs={name: TensorData.from_numpy(array) for name, array in inputs.items()},
    )
