"""The frame of a decoder: embedding, a stack of equal blocks, the last norm.

A family brings its block; the blocks' parameters are stacked on a leading axis and scanned over, so
compile time does not grow with depth. The unembedding is not part of the forward pass: a caller
takes it from `unembedding(params)`, because [tokens, vocab] logits are made in chunks, if at all.
"""

from __future__ import annotations

from typing import Any, final

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from loops_backend_jax.config import ModelConfig
from loops_backend_jax.lora.adapter import UNEMBEDDING_TARGET, Params
from loops_backend_jax.lora.tree import get_array
from loops_backend_jax.models.layers import (
    Activations,
    BlockContext,
    KeyValues,
    PreNormBlock,
    RMSNorm,
    cache_mask,
    rotation,
    segment_mask,
)


@final
class Decoder(nn.Module):
    """Token ids to the last hidden vectors.

    Attributes:
        config: the model's shape.
        block: the family's block class.
        dtype: of activations.
        remat: recompute whole blocks in the backward pass, not attention scores only.
        unroll: how many blocks to lay out in one turn of the scan; more compiles longer and decodes
            faster.
    """

    config: ModelConfig
    block: type[PreNormBlock]
    dtype: jnp.dtype = jnp.dtype("float32")
    remat: bool = False
    unroll: int = 1

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "batch seq"],
        positions: Int[Array, "batch seq"],
        segment_ids: Int[Array, "batch seq"],
        *,
        lora_scale: float | Float[Array, ""] = 0.0,
        cache: KeyValues | None = None,
    ) -> tuple[Activations, KeyValues | None]:
        """Return the normed last hidden vectors, and the cache with this call's keys and values.

        Args:
            tokens: token ids, [batch, seq]; anything in the vocabulary where padded.
            positions: [batch, seq], from 0 in each sequence.
            segment_ids: [batch, seq], 0 where padded; with a cache, one sequence a row.
            lora_scale: `AdapterSpec.scale` of the adapter in the collection `lora`.
            cache: [layers, batch, slots, kv_heads, head_size] twice; None: no earlier tokens.
        """
        config = self.config
        width = (config.vocab_size, config.model_width)
        table = Embedding(*width, name="embed_tokens")()
        x = jnp.take(table, tokens, axis=0).astype(self.dtype)
        cos, sin = rotation(config.rope, config.head_size, positions)
        if cache is None:
            mask, slots = segment_mask(segment_ids, positions), positions
        else:
            num_slots = cache.keys.shape[2]
            mask = cache_mask(positions, num_slots)
            slots = jnp.where(segment_ids > 0, positions, num_slots)
        context = BlockContext(cos, sin, mask, slots, jnp.asarray(lora_scale, jnp.float32))
        layers = jnp.arange(config.num_layers)
        (x, cache), _ = self._stack()((x, cache), context, layers)
        if not config.tied_embeddings:
            Embedding(*width, name=UNEMBEDDING_TARGET)()  # so that init makes it
        return RMSNorm(config.norm_eps, name="norm")(x), cache

    def _stack(self) -> nn.Module:
        # Attention scores are recomputed always: measured on a CPU with 8 rows of 256 tokens, that
        # takes no more time than keeping them, and two fifths less memory.
        kept = None if self.remat else jax.checkpoint_policies.dots_with_no_batch_dims_saveable
        block = nn.remat(self.block, prevent_cse=False, policy=kept)
        scanned = nn.scan(
            block,
            variable_axes={"params": 0, "lora": 0},
            split_rngs={"params": True},
            in_axes=(nn.broadcast, 0),  # pyright: ignore[reportArgumentType] # flax says int
            out_axes=0,
            length=self.config.num_layers,
            unroll=self.unroll,
        )
        return scanned(self.config, name="layers")


@final
class Embedding(nn.Module):
    """A table of one vector a token id."""

    vocab_size: int
    model_width: int

    @nn.compact
    def __call__(self) -> Float[Array, "vocab width"]:
        """Return the table."""
        shape = (self.vocab_size, self.model_width)
        return self.param("embedding", nn.initializers.normal(0.02), shape)


def unembedding(params: Params) -> Float[Array, "vocab width"]:
    """Return the matrix that turns hidden vectors into logits: its own, or the tied embedding."""
    holder = UNEMBEDDING_TARGET if UNEMBEDDING_TARGET in params else "embed_tokens"
    return get_array(params, (holder, "embedding"))


def make_cache(config: ModelConfig, batch: int, num_slots: int, dtype: jnp.dtype) -> KeyValues:
    """Return an empty cache for `batch` sequences of up to `num_slots` tokens."""
    shape = (config.num_layers, batch, num_slots, config.num_kv_heads, config.head_size)
    return KeyValues(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def apply_decoder(
    model: Decoder,
    params: Params,
    factors: Params | None,
    *inputs: Int[Array, "batch seq"],
    lora_scale: float | Float[Array, ""] = 0.0,
    cache: KeyValues | None = None,
) -> tuple[Activations, KeyValues | None]:
    """Return `model`'s output for frozen params and an adapter's factors (None: the base alone)."""
    variables = {"params": params}
    if factors is not None:
        variables["lora"] = factors
    result: Any = model.apply(variables, *inputs, lora_scale=lora_scale, cache=cache)
    hidden, cache = result
    return hidden, cache
