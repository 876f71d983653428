"""The weight table of the Qwen3 family."""

from __future__ import annotations

from loops_backend_jax.config import ModelConfig
from loops_backend_jax.weights.table import WeightRow, norm_row, pre_norm_rows


def qwen3_table(config: ModelConfig) -> tuple[WeightRow, ...]:
    """Return the rows of a Qwen3 model: Llama's, and the norms of queries and keys."""
    norms = (norm_row("self_attn.q_norm"), norm_row("self_attn.k_norm"))
    return (*pre_norm_rows(config), *norms)
