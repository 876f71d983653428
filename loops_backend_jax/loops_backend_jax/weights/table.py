"""What a weight table is made of: one row for each array of the parameter tree.

A row says under which name pattern the files hold the array, where it goes, and what is done to it
on the way. Rows whose pattern holds `{layer}` are stacked over the layers.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, final

from loops_backend_jax.config import ModelConfig
from loops_backend_jax.lora.adapter import ATTENTION_TARGETS, MLP_TARGETS

Transform = Literal["keep", "transpose"]


@final
@dataclasses.dataclass(frozen=True, slots=True)
class WeightRow:
    """One array of the parameter tree.

    Attributes:
        pattern: the tensor's name in the files; `{layer}` stands for the layer's number.
        path: where the array goes in the tree.
        transform: `transpose` turns the files' [out, in] into the layers' [in, out].
    """

    pattern: str
    path: tuple[str, ...]
    transform: Transform = "keep"


def linear_rows(part: str, name: str, *, bias: bool) -> tuple[WeightRow, ...]:
    """Return the rows of one linear layer of every block: its kernel, and its bias if any."""
    file_name, path = f"model.layers.{{layer}}.{part}.{name}", ("layers", part, name)
    kernel = WeightRow(f"{file_name}.weight", (*path, "kernel"), "transpose")
    return (kernel, WeightRow(f"{file_name}.bias", (*path, "bias"))) if bias else (kernel,)


def norm_row(name: str) -> WeightRow:
    """Return the row of one norm of every block."""
    path = ("layers", *name.split("."), "scale")
    return WeightRow(f"model.layers.{{layer}}.{name}.weight", path)


def pre_norm_rows(config: ModelConfig) -> tuple[WeightRow, ...]:
    """Return the rows of embedding, unembedding, last norm, and of blocks with two norms each."""
    rows = [
        WeightRow("model.embed_tokens.weight", ("embed_tokens", "embedding")),
        WeightRow("model.norm.weight", ("norm", "scale")),
        norm_row("input_layernorm"),
        norm_row("post_attention_layernorm"),
    ]
    if not config.tied_embeddings:
        rows.append(WeightRow("lm_head.weight", ("lm_head", "embedding")))
    for name in ATTENTION_TARGETS:
        rows += linear_rows("self_attn", name, bias=config.attention_bias)
    for name in MLP_TARGETS:
        rows += linear_rows("mlp", name, bias=config.mlp_bias)
    return tuple(rows)
