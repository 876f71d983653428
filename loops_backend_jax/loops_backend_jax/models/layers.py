"""The layers that model families are put together from: norm, rotation, attention, feed-forward.

Conventions: `dtype` is that of activations; norms, softmax and rotation angles are float32 always.
Token rows carry `positions` (from 0 in each sequence) and `segment_ids` (0 is padding, sequences of
one row count from 1): a token sees the tokens of its own segment up to its own position, so several
sequences may share a row. With a cache, a row is one sequence, and slot p holds the key of
position p.
"""

from __future__ import annotations

import math
from typing import NamedTuple, final

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from loops_backend_jax.config import ModelConfig, RopeConfig
from loops_backend_jax.lora.adapter import lora_delta

Activations = Float[Array, "batch seq width"]
Layer = Int[Array, ""]
"""The number of a block, from 0."""


class KeyValues(NamedTuple):
    """Keys and values of earlier tokens.

    Attributes:
        keys, values: [layers, batch, slots, kv_heads, head_size]. What slots behind a row's last
            position hold does not matter.
    """

    keys: jax.Array
    values: jax.Array


class BlockContext(NamedTuple):
    """What every block of a forward pass reads besides the residual stream.

    Attributes:
        cos, sin: rotation, [batch, seq, head_size / 2], float32.
        mask: [batch, seq, keys], True where the query may look.
        slots: [batch, seq], where a cache takes each token; past its end for padding.
        lora_scale: scalar factor of the low-rank updates.
    """

    cos: jax.Array
    sin: jax.Array
    mask: jax.Array
    slots: jax.Array
    lora_scale: jax.Array


@final
class RMSNorm(nn.Module):
    """Scales each vector to unit mean square, then by a learned weight."""

    eps: float

    @nn.compact
    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """Return the normed vectors, in the dtype of `x`."""
        weight = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.eps)
        return wide.astype(x.dtype) * weight.astype(x.dtype)


@final
class LoraLinear(nn.Module):
    """A frozen linear layer, plus the low-rank update where the collection `lora` holds one."""

    features: int
    use_bias: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch inp"], lora_scale: Float[Array, ""]
    ) -> Float[Array, "*batch out"]:
        """Return x W + b + scale (x A) B, in the dtype of `x`."""
        shape = (x.shape[-1], self.features)
        y = x @ self.param("kernel", nn.initializers.lecun_normal(), shape).astype(x.dtype)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            y = y + bias.astype(x.dtype)
        if self.has_variable("lora", "lora_a"):
            lora_a, lora_b = (
                self.get_variable("lora", "lora_a"),
                self.get_variable("lora", "lora_b"),
            )
            y = y + lora_delta(x, lora_a, lora_b, scale=lora_scale).astype(x.dtype)
        return y


@final
class Attention(nn.Module):
    """Causal self-attention with shared key-value heads; `qk_norm` norms queries and keys first."""

    config: ModelConfig
    qk_norm: bool = False

    @nn.compact
    def __call__(
        self, x: Activations, context: BlockContext, cache: KeyValues | None, layer: Layer
    ) -> tuple[Activations, KeyValues | None]:
        """Return what attention adds to the stream, and the cache with the new keys and values."""
        config, scale = self.config, context.lora_scale
        head_size, bias = config.head_size, config.attention_bias

        def project(name: str, heads: int) -> jax.Array:
            y = LoraLinear(heads * head_size, bias, name=name)(x, scale)
            return y.reshape(*x.shape[:2], heads, head_size)

        query = project("q_proj", config.num_heads)
        key = project("k_proj", config.num_kv_heads)
        value = project("v_proj", config.num_kv_heads)
        if self.qk_norm:
            query = RMSNorm(config.norm_eps, name="q_norm")(query)
            key = RMSNorm(config.norm_eps, name="k_norm")(key)
        query, key = rotate(query, context.cos, context.sin), rotate(key, context.cos, context.sin)
        if cache is not None:
            cache = write_cache(cache, layer, key, value, context.slots)
            key, value = cache.keys[layer].astype(x.dtype), cache.values[layer].astype(x.dtype)
        mixed = attend(query, key, value, context.mask)
        return LoraLinear(x.shape[-1], bias, name="o_proj")(mixed, scale), cache


@final
class GatedMLP(nn.Module):
    """The feed-forward part: down(silu(gate(x)) * up(x))."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Activations, lora_scale: Float[Array, ""]) -> Activations:
        """Return what the feed-forward part adds to the stream."""
        width, bias = self.config.ff_width, self.config.mlp_bias
        gate = LoraLinear(width, bias, name="gate_proj")(x, lora_scale)
        up = LoraLinear(width, bias, name="up_proj")(x, lora_scale)
        return LoraLinear(x.shape[-1], bias, name="down_proj")(nn.silu(gate) * up, lora_scale)


class PreNormBlock(nn.Module):
    """Attention and a gated feed-forward part, each behind a norm and around the stream.

    A family subclasses it to choose its options.
    """

    config: ModelConfig
    qk_norm: bool = False

    @nn.compact
    def __call__(
        self, carry: tuple[Activations, KeyValues | None], context: BlockContext, layer: Layer
    ) -> tuple[tuple[Activations, KeyValues | None], None]:
        """Return the stream after block number `layer`, and the cache with its keys and values.

        The cache of all blocks goes through each of them: where every block gave back a part of
        its own, those would be put together anew, and all of it copied, for every token.
        """
        x, cache = carry
        eps = self.config.norm_eps
        normed = RMSNorm(eps, name="input_layernorm")(x)
        attention = Attention(self.config, self.qk_norm, name="self_attn")
        mixed, cache = attention(normed, context, cache, layer)
        x = x + mixed
        normed = RMSNorm(eps, name="post_attention_layernorm")(x)
        x = x + GatedMLP(self.config, name="mlp")(normed, context.lora_scale)
        return (x, cache), None


def attend(
    query: Float[Array, "batch seq heads head"],
    key: Float[Array, "batch keys kv_heads head"],
    value: Float[Array, "batch keys kv_heads head"],
    mask: Bool[Array, "batch seq keys"],
) -> Float[Array, "batch seq mixed"]:
    """Return attention-weighted values, heads side by side.

    Each key-value head serves num_heads / num_kv_heads query heads, laid out as rows of one matrix
    product, so that nothing is repeated. Every query must see at least one key.

    Source:
        Attention is all you need, arXiv:1706.03762, equation 1; shared heads: arXiv:2305.13245.
    """
    batch, seq, heads, head_size = query.shape
    num_keys, kv_heads = key.shape[1:3]
    groups = heads // kv_heads
    q = query.reshape(batch, seq, kv_heads, groups, head_size).transpose(0, 2, 3, 1, 4)
    q = q.reshape(batch, kv_heads, groups * seq, head_size)
    scores = (q @ key.transpose(0, 2, 3, 1)).astype(jnp.float32) / math.sqrt(head_size)
    scores = scores.reshape(batch, kv_heads, groups, seq, num_keys)
    scores = jnp.where(mask[:, None, None], scores, -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    weights = weights.reshape(batch, kv_heads, groups * seq, num_keys)
    mixed = (weights @ value.transpose(0, 2, 1, 3)).reshape(batch, heads, seq, head_size)
    return mixed.transpose(0, 2, 1, 3).reshape(batch, seq, heads * head_size)


def rotation(
    rope: RopeConfig, head_size: int, positions: Int[Array, "batch seq"]
) -> tuple[Float[Array, "batch seq half"], Float[Array, "batch seq half"]]:
    """Return cosine and sine of every position's angles, float32.

    Source:
        RoFormer, arXiv:2104.09864, equation 15.
    """
    angles = positions[..., None].astype(jnp.float32) * rope_frequencies(rope, head_size)
    return jnp.cos(angles), jnp.sin(angles)


def rope_frequencies(rope: RopeConfig, head_size: int) -> Float[np.ndarray, " half"]:
    """Return the angle that one position adds, for each pair of a head's numbers, float32.

    Source:
        `linear`: arXiv:2306.15595, equation 4. `llama3`: the Llama 3 models' release; wavelengths
        under original / high_freq_factor stay, those over original / low_freq_factor are
        stretched by the factor, and those between are blended.
    """
    exponent = np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)
    plain = (1.0 / np.float32(rope.theta) ** exponent).astype(np.float32)
    if rope.kind == "default":
        return plain
    stretched = plain / np.float32(rope.factor)
    if rope.kind == "linear":
        return stretched
    turns = rope.original_max_positions * plain / (2 * np.pi)  # over the original context
    keep = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    keep = np.clip(keep, 0.0, 1.0)
    return ((1 - keep) * stretched + keep * plain).astype(np.float32)


def rotate(
    x: Float[Array, "batch seq heads head"],
    cos: Float[Array, "batch seq half"],
    sin: Float[Array, "batch seq half"],
) -> Float[Array, "batch seq heads head"]:
    """Return `x` with number i and number i + half of each head turned by their angle."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[:, :, None], sin[:, :, None]
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def segment_mask(
    segment_ids: Int[Array, "batch seq"], positions: Int[Array, "batch seq"]
) -> Bool[Array, "batch seq seq"]:
    """Return who sees whom in rows of segments: [batch, query, key]; padding sees padding."""
    same = segment_ids[:, :, None] == segment_ids[:, None, :]
    return same & (positions[:, None, :] <= positions[:, :, None])


def cache_mask(
    positions: Int[Array, "batch seq"], num_slots: int
) -> Bool[Array, "batch seq {num_slots}"]:
    """Return which slots of a cache each token sees: those up to its own position."""
    return jnp.arange(num_slots) <= positions[..., None]


def write_cache(
    cache: KeyValues,
    layer: Layer,
    key: Float[Array, "batch seq kv_heads head"],
    value: Float[Array, "batch seq kv_heads head"],
    slots: Int[Array, "batch seq"],
) -> KeyValues:
    """Return the cache with keys and values in their slots; those past its end are dropped."""
    rows = jnp.arange(key.shape[0])[:, None]
    key, value = key.astype(cache.keys.dtype), value.astype(cache.values.dtype)
    keys = cache.keys.at[layer, rows, slots].set(key, mode="drop")
    values = cache.values.at[layer, rows, slots].set(value, mode="drop")
    return KeyValues(keys, values)
