"""Golden cases, and adapters and datums made from names and arrays."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (jax.jit says little of what it returns)
from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy

from loops_backend_jax.config import BackendSettings, ModelConfig
from loops_backend_jax.lora.adapter import (
    LINEAR_TARGETS,
    AdapterSpec,
    Factors,
    Params,
    adapter_sites,
    init_factors,
)
from loops_backend_jax.lora.tree import iter_arrays, put_array
from loops_backend_jax.losses.cross_entropy import CROSS_ENTROPY
from loops_backend_jax.losses.logprobs import head_logits, make_head
from loops_backend_jax.models.decoder import Decoder, apply_decoder, unembedding
from loops_backend_jax.resolvers.cache import make_cache_root
from loops_backend_jax.resolvers.smollm2 import resolve_smollm2
from loops_backend_jax.train.call import CallResult, make_plan, run_call
from loops_backend_jax.train.state import make_state
from loops_backend_jax.weights.load import BaseModel
from loops_core.errors import UnreachableError, UnsupportedError
from loops_core.protocols import LossFunction
from loops_core.protocols.rows import make_rows
from loops_core.types.datum import Datum, ModelInput
from loops_core.types.tensor import TensorData
from loops_core.types.training import LossFnConfig

GOLDEN = Path(__file__).parents[1] / "golden"
RANK, ALPHA = 8, 16


Tensors = dict[str, np.ndarray[Any, np.dtype[Any]]]


def read_tensors(path: Path) -> Tensors:
    """Return the arrays of a safetensors file by name."""
    return safetensors.numpy.load_file(path)


def write_tensors(tensors: Tensors, path: Path) -> None:
    """Write arrays as a safetensors file."""
    safetensors.numpy.save_file(tensors, path)


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
    tensors: Tensors = {}
    for site in adapter_sites(config, LINEAR_TARGETS):
        for name in site.module_names():
            lora_a = _draw(name, "lora_A").standard_normal((RANK, site.fan_in))
            lora_b = _draw(name, "lora_B").standard_normal((site.fan_out, RANK))
            prefix = f"base_model.model.{name}"
            tensors[f"{prefix}.lora_A.weight"] = (lora_a / np.sqrt(site.fan_in)).astype("f4")
            tensors[f"{prefix}.lora_B.weight"] = (lora_b * 0.02).astype("f4")
    write_tensors(tensors, directory / "adapter_model.safetensors")
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


def draw_factors(config: ModelConfig, spec: AdapterSpec, *, seed: int = 0) -> Factors:
    """Return an adapter of random values that changes the model's output."""
    g = np.random.default_rng(seed)
    factors = init_factors(config, spec, seed=seed)
    for path, array in list(iter_arrays(factors)):
        spread = 0.05 if path[-1] == "lora_b" else array.shape[-2] ** -0.5
        put_array(factors, path, to_jax(g.standard_normal(array.shape) * spread))
    return factors


def to_jax(array: np.ndarray, dtype: type[np.generic] = np.float32) -> jax.Array:
    """Return a NumPy array as one of JAX."""
    return TensorData.from_numpy(array.astype(dtype)).to_jax()


def final_logits(
    base: BaseModel,
    tokens: np.ndarray,
    factors: Factors | None,
    *,
    scale: float,
    params: Params | None = None,
) -> np.ndarray:
    """Return the logits [rows, length, vocab] of whole rows of tokens."""
    weights = base.params if params is None else params
    return np.asarray(_logits(base.model, weights, factors, scale, *token_arrays(tokens)))


def token_arrays(tokens: np.ndarray) -> list[jax.Array]:
    """Return token ids, positions and segment ids of whole rows."""
    positions = np.zeros_like(tokens) + np.arange(tokens.shape[1], dtype=np.int32)
    return [to_jax(array, np.int32) for array in (tokens, positions, np.ones_like(tokens))]


@functools.partial(jax.jit, static_argnums=0)
def _logits(
    model: Decoder, params: Params, factors: Factors | None, scale: float, *ids: jax.Array
) -> jax.Array:
    hidden, _ = apply_decoder(model, params, factors, *ids, lora_scale=scale)
    return head_logits(hidden, make_head(unembedding(params), factors, scale))


def run_data(
    base: BaseModel,
    spec: AdapterSpec,
    factors: Factors,
    data: list[Datum],
    *,
    max_batch_tokens: int = 2048,
    max_logits_bytes: int = 2**26,
    loss: LossFunction = CROSS_ENTROPY,
    config: LossFnConfig | None = None,
    top_k: int = 0,
) -> CallResult:
    """Return loss, log-probabilities and gradients of the datums' loss sum."""
    settings = BackendSettings(max_logits_bytes=max_logits_bytes)
    limits = {"vocab_size": base.config.vocab_size, "max_seq_len": base.config.max_positions}
    return run_call(
        make_plan(base.model, settings, loss, config or {}, top_k=top_k),
        base.params,
        make_state(spec, factors),
        make_rows(data, loss, **limits),
        max_batch_tokens=max_batch_tokens,
        with_gradients=True,
    )


def flat_gradients(result: CallResult) -> np.ndarray:
    """Return all gradients as one vector, in the order of their paths."""
    assert result.gradients is not None
    return np.concatenate([np.asarray(x).ravel() for _, x in iter_arrays(result.gradients)])
