"""The model families, and the one table that says which block serves which family."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp

from loops_backend_jax.config import BackendSettings, ModelConfig
from loops_backend_jax.models.decoder import Decoder
from loops_backend_jax.models.layers import PreNormBlock
from loops_backend_jax.models.llama import LlamaBlock
from loops_backend_jax.models.qwen3 import Qwen3Block

BLOCKS: Mapping[str, type[PreNormBlock]] = {"llama": LlamaBlock, "qwen3": Qwen3Block}


def make_model(config: ModelConfig, settings: BackendSettings, *, unroll: int = 1) -> Decoder:
    """Return the module of the model's family; it holds no weights and compares by value."""
    return Decoder(
        config=config,
        block=BLOCKS[config.family],
        dtype=jnp.dtype(settings.dtype),
        remat=settings.remat,
        unroll=unroll,
    )
