"""From logits to odds: temperature, top_k, top_p; and the log-probability of what was chosen.

Odds are probabilities before they are divided by their sum. A row is cut by comparing with a
threshold that is found bit by bit, not by sorting: at [16, 49152] on two cores a sort takes 134 ms,
31 comparisons of the whole row 4 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

GREEDY_BELOW = float(np.finfo(np.float32).tiny)
"""Temperatures under the smallest normal float32 are greedy: no second token could have odds."""

Odds = Float[Array, "rows vocab"]


class DrawSettings(NamedTuple):
    """How each row's token is drawn; all traced, so that no setting compiles anything.

    Attributes:
        temperature: [rows], float32; 0 takes the most likely token.
        top_k: [rows], int32; the vocabulary's size keeps all.
        top_p: [rows], float32; 1 keeps all.
    """

    temperature: Float[Array, " rows"]
    top_k: Int[Array, " rows"]
    top_p: Float[Array, " rows"]


def make_odds(logits: Float[Array, "rows vocab"], settings: DrawSettings) -> Odds:
    """Return what each token's chance is proportional to; 0 for tokens that are cut away.

    First the temperature divides, then the `top_k` most likely tokens are kept, then of those the
    fewest whose probabilities, renormalised among them, sum to `top_p`. Of equally likely tokens
    the lower ids are kept. Greedy rows get odds of temperature 1, to no use.
    """
    greedy = is_greedy(settings)
    temperature = jnp.where(greedy, 1.0, settings.temperature)
    odds = jnp.exp((logits - jnp.max(logits, axis=-1, keepdims=True)) / temperature[:, None])
    cut_k = ~greedy & (settings.top_k < logits.shape[-1])
    cut_p = ~greedy & (settings.top_p < 1.0)
    odds = jax.lax.cond(jnp.any(cut_k), _keep_top_k, _keep_all, odds, settings, cut_k)
    return jax.lax.cond(jnp.any(cut_p), _keep_top_p, _keep_all, odds, settings, cut_p)


def is_greedy(settings: DrawSettings) -> Bool[Array, " rows"]:
    """Return which rows take the most likely token instead of drawing one."""
    return settings.temperature < GREEDY_BELOW


def most_likely(logits: Float[Array, "rows vocab"]) -> Int[Array, " rows"]:
    """Return the token with the highest logit of each row, of equal ones the lowest id."""
    # Two plain reductions: XLA's argmax takes four times as long on a CPU.
    top = jnp.max(logits, axis=-1, keepdims=True)
    ids = jnp.arange(logits.shape[-1], dtype=jnp.int32)
    return jnp.min(jnp.where(logits == top, ids, logits.shape[-1] - 1), axis=-1)


def chosen_logprobs(
    logits: Float[Array, "rows vocab"], tokens: Int[Array, " rows"]
) -> Float[Array, " rows"]:
    """Return the natural log-probability of one token a row under the raw distribution."""
    chosen = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


def _keep_all(odds: Odds, _settings: DrawSettings, _cut: Bool[Array, " rows"]) -> Odds:
    return odds


def _keep_top_k(odds: Odds, settings: DrawSettings, _cut: Bool[Array, " rows"]) -> Odds:
    kept = likeliest(odds, jnp.ones_like(odds), settings.top_k.astype(jnp.float32))
    return jnp.where(kept, odds, 0.0)


def _keep_top_p(odds: Odds, settings: DrawSettings, cut: Bool[Array, " rows"]) -> Odds:
    kept = likeliest(odds, odds, settings.top_p * jnp.sum(odds, axis=-1))
    # A row that keeps all would lose those that are too small to change its sum.
    return jnp.where(kept | ~cut[:, None], odds, 0.0)


def likeliest(
    odds: Odds, share: Float[Array, "rows vocab"], goal: Float[Array, " rows"]
) -> Bool[Array, "rows vocab"]:
    """Return the fewest tokens, in falling order of odds, whose shares sum to at least `goal`.

    Args:
        odds: what tokens are ordered by, not negative; equal ones are in order of their ids.
        share: what each token adds, not negative.
        goal: [rows]; a row that cannot reach it keeps all.
    """
    order = jax.lax.bitcast_convert_type(odds, jnp.int32)  # same order, for numbers not negative
    ids = jnp.arange(odds.shape[-1], dtype=jnp.int32)

    def total(kept: Bool[Array, "rows vocab"]) -> Float[Array, " rows"]:
        return jnp.sum(jnp.where(kept, share, 0.0), axis=-1)

    def reached(threshold: Int[Array, " rows"]) -> Bool[Array, " rows"]:
        return total(order >= threshold[:, None]) >= goal

    threshold = _largest(reached, 31, odds.shape[0])[:, None]
    above, level = order > threshold, order == threshold

    def missed(num_ids: Int[Array, " rows"]) -> Bool[Array, " rows"]:
        return total(above | (level & (ids < num_ids[:, None]))) < goal

    num_ids = _largest(missed, odds.shape[-1].bit_length(), odds.shape[0])[:, None]
    return above | (level & (ids <= num_ids))


def _largest(
    holds: Callable[[Int[Array, " rows"]], Bool[Array, " rows"]], num_bits: int, num_rows: int
) -> Int[Array, " rows"]:
    """Return the largest number of `num_bits` bits up to which `holds` is true, at least 0."""

    def try_bit(i: Int[Array, ""], found: Int[Array, " rows"]) -> Int[Array, " rows"]:
        candidate = found | (jnp.int32(1) << (num_bits - 1 - i))
        return jnp.where(holds(candidate), candidate, found)

    return jax.lax.fori_loop(0, num_bits, try_bit, jnp.zeros(num_rows, jnp.int32))
