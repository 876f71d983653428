"""The key-value cache of running sequences: how large it is made, how it grows, how it is shared.

Every shape is taken from a short list, so that the number of compiled programs is bounded whatever
is asked: numbers of slots double from `MIN_SLOTS` up to the context, rows and the pieces in which a
prompt is read are powers of two. A cache starts as large as the prompt needs and doubles when its
sequences get there, so attention pays for what was written, not for what could be.
"""

from __future__ import annotations

import functools
from typing import Final

import jax
import jax.numpy as jnp

from loops_backend_jax.config import ModelConfig
from loops_backend_jax.models.layers import KeyValues

MIN_SLOTS: Final = 64
MIN_PIECE: Final = 32


def slots_for(num_tokens: int, max_seq_len: int) -> int:
    """Return how many slots to make for `num_tokens` tokens: a power of two, or the context."""
    return min(max(MIN_SLOTS, ceil_power_of_two(num_tokens)), max_seq_len)


def piece_for(num_tokens: int, max_piece: int) -> int:
    """Return the padded length of the next piece of a prompt of which `num_tokens` are left."""
    longest = max(MIN_PIECE, floor_power_of_two(max_piece))
    return min(max(MIN_PIECE, ceil_power_of_two(num_tokens)), longest)


def floor_power_of_two(number: int) -> int:
    """Return the largest power of two that is not over `number`, which is at least 1."""
    return 1 << (number.bit_length() - 1)


def ceil_power_of_two(number: int) -> int:
    """Return the smallest power of two that is not under `number`, which is at least 1."""
    return 1 << (number - 1).bit_length()


def rows_for(num_samples: int, row_bytes: int, *, max_rows: int, max_cache_bytes: int) -> int:
    """Return how many samples of a request are decoded side by side: a power of two.

    Args:
        num_samples: how many it asks for.
        row_bytes: what the cache of one of them takes at its full length.
        max_rows: most rows of one program.
        max_cache_bytes: what the rows together may take; one row is taken in any case.
    """
    fitting = max(1, min(max_rows, max_cache_bytes // row_bytes))
    return min(ceil_power_of_two(num_samples), floor_power_of_two(fitting))


def cache_bytes(config: ModelConfig, num_rows: int, num_slots: int, dtype: jnp.dtype) -> int:
    """Return what a cache of this size takes."""
    numbers = 2 * config.num_layers * config.num_kv_heads * config.head_size
    return numbers * num_rows * num_slots * dtype.itemsize


def max_programs(max_seq_len: int, *, max_rows: int, max_piece: int) -> int:
    """Return how many programs one model's sampling compiles at most, for one shape of adapter.

    Decoding has one for each pair of rows and slots, prefill one for each pair of piece and slots.
    Prompt log-probabilities take one more for each piece and power of two of candidates asked for.
    """
    slots = {slots_for(n, max_seq_len) for n in range(1, max_seq_len + 1)}
    pieces = {piece_for(n, max_piece) for n in range(1, max_seq_len + 1)}
    return len(slots) * (max_rows.bit_length() + len(pieces))


@functools.partial(jax.jit, static_argnames="num_slots")
def grow_cache(cache: KeyValues, *, num_slots: int) -> KeyValues:
    """Return the cache with `num_slots` slots; the new ones are empty."""
    missing = num_slots - cache.keys.shape[2]

    def pad(x: jax.Array) -> jax.Array:
        return jnp.pad(x, ((0, 0), (0, 0), (0, missing), (0, 0), (0, 0)))

    return KeyValues(pad(cache.keys), pad(cache.values))


@functools.partial(jax.jit, static_argnames="num_rows")
def repeat_cache(cache: KeyValues, *, num_rows: int) -> KeyValues:
    """Return the one row of a cache, the prompt that samples share, `num_rows` times."""
    return KeyValues(
        jnp.repeat(cache.keys, num_rows, axis=1), jnp.repeat(cache.values, num_rows, axis=1)
    )
