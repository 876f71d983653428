"""Weights in and out: tables from file names to the parameter tree, safetensors, PEFT adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from loops_backend_jax.config import ModelConfig
from loops_backend_jax.weights.llama import llama_table
from loops_backend_jax.weights.qwen3 import qwen3_table
from loops_backend_jax.weights.table import WeightRow

TABLES: Mapping[str, Callable[[ModelConfig], tuple[WeightRow, ...]]] = {
    "llama": llama_table,
    "qwen3": qwen3_table,
}
