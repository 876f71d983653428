"""The weight table of the Llama family."""

from __future__ import annotations

from loops_backend_jax.config import ModelConfig
from loops_backend_jax.weights.table import WeightRow, pre_norm_rows


def llama_table(config: ModelConfig) -> tuple[WeightRow, ...]:
    """Return the rows of a Llama model."""
    return pre_norm_rows(config)
