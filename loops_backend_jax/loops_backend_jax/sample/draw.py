"""Random keys and the draw itself: the same request gives the same tokens, alone or among others.

A token's key depends on the request's seed, the number of the sample and the token's position in
the sequence, prompt included, and on nothing else: not on the rows beside it, not on how many
steps are taken at a time. A prompt to which its first new tokens are attached continues alike.
"""

from __future__ import annotations

import hashlib
from typing import Final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

BLOCK: Final = 256
"""Tokens whose odds are summed before one of them is chosen: about the root of a vocabulary."""


def seed_key(seed: int) -> Key[Array, ""]:
    """Return the key of a request; any integer is a seed, equal ones give equal keys."""
    digest = hashlib.sha256(f"sample:{seed}".encode()).digest()
    words = np.frombuffer(digest[:8], dtype="<u4").astype(np.uint32)
    return jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32")


@jax.jit
def sample_keys(key: Key[Array, ""], numbers: Int[Array, " rows"]) -> Key[Array, " rows"]:
    """Return the key of each sample of a request, by its number."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)


def draw_tokens(
    odds: Float[Array, "rows vocab"],
    keys: Key[Array, " rows"],
    positions: Int[Array, " rows"],
) -> Int[Array, " rows"]:
    """Return one token a row, each as likely as its share of the row's odds.

    Two numbers between 0 and 1 are drawn for each row: one chooses a block of tokens, one a token
    of the block. So no sum is longer than the block or the number of blocks, a token of
    probability 1e-12 still has it, and one of odds 0 is never drawn.

    Args:
        odds: not negative, at least one positive in each row.
        keys: of the samples, as `sample_keys` gives them.
        positions: in the sequence, of the token to be drawn.
    """
    rows, vocab = odds.shape
    blocks = jnp.pad(odds, ((0, 0), (0, -vocab % BLOCK))).reshape(rows, -1, BLOCK)
    uniform = jax.vmap(lambda key, at: jax.random.uniform(jax.random.fold_in(key, at), (2,)))(
        keys, positions
    )
    block = _choose(jnp.sum(blocks, axis=-1), uniform[:, 0])
    inside = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
    return block * BLOCK + _choose(inside, uniform[:, 1])


def _choose(
    odds: Float[Array, "rows items"], uniform: Float[Array, " rows"]
) -> Int[Array, " rows"]:
    """Return the first item at which the running sum of odds passes `uniform` of the whole."""
    sums = jnp.cumsum(odds, axis=-1)
    # A parallel sum may rise by a rounding at an item of odds 0: such an item never counts.
    sums = jnp.where(odds > 0, sums, -1.0)
    passed = sums > (uniform * jnp.max(sums, axis=-1))[:, None]
    ids = jnp.arange(odds.shape[-1], dtype=jnp.int32)
    return jnp.min(jnp.where(passed, ids, odds.shape[-1]), axis=-1)
