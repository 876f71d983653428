"""The compiled programs of sampling: reading a piece of a prompt, and a few steps of decoding.

Both run the trainer's own layers with a cache. Decoding starts from the last token of the prompt,
which prefill leaves out: every step reads one token a row and draws the next, the first step too.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from loops_backend_jax.lora.adapter import Factors, Params
from loops_backend_jax.losses.logprobs import Head, head_logits, make_head
from loops_backend_jax.models.decoder import Decoder, apply_decoder, unembedding
from loops_backend_jax.models.layers import KeyValues
from loops_backend_jax.sample.draw import draw_tokens
from loops_backend_jax.sample.logits import (
    DrawSettings,
    chosen_logprobs,
    is_greedy,
    make_odds,
    most_likely,
)


class Policy(NamedTuple):
    """The weights that answer a request.

    Attributes:
        params: of the frozen base.
        factors: of the adapter; None: the base alone.
        lora_scale: the adapter's scale; 0 without one.
    """

    params: Params
    factors: Factors | None = None
    lora_scale: float | jax.Array = 0.0

    def head(self) -> Head:
        """Return what turns hidden vectors into logits."""
        return make_head(unembedding(self.params), self.factors, self.lora_scale)


class Rows(NamedTuple):
    """The sequences of one decoding program, all but their cache.

    Attributes:
        tokens: [rows], the last token of each, which is not in the cache yet.
        positions: [rows], where it stands.
        limits: [rows], the position of the last token that may be drawn; a row that stands there
            is finished, or padding.
        keys: [rows], of the samples.
        settings: how their tokens are drawn.
    """

    tokens: Int[Array, " rows"]
    positions: Int[Array, " rows"]
    limits: Int[Array, " rows"]
    keys: Key[Array, " rows"]
    settings: DrawSettings


class Drawn(NamedTuple):
    """What a few steps drew.

    Attributes:
        tokens: [steps, rows]; -1 where the row was finished.
        logprobs: [steps, rows], float32 under the raw distribution; 0 where the row was finished.
    """

    tokens: Int[Array, "steps rows"]
    logprobs: Float[Array, "steps rows"]


@functools.partial(jax.jit, static_argnames="model", donate_argnames="cache")
def read_piece(
    policy: Policy,
    cache: KeyValues,
    tokens: Int[Array, "1 piece"],
    start: int | jax.Array,
    length: int | jax.Array,
    *,
    model: Decoder,
) -> tuple[Float[Array, "piece width"], KeyValues]:
    """Return the hidden vectors of a piece of a prompt, and the cache with its keys and values.

    Args:
        policy: the weights.
        cache: of one row, with the tokens before the piece; given up.
        tokens: token ids, [1, piece]; anything in the vocabulary where padded.
        start: position of the first.
        length: how many of the tokens are not padding.
        model: the module.
    """
    offsets = jnp.arange(tokens.shape[1], dtype=jnp.int32)
    inside = (offsets < length).astype(jnp.int32)[None]
    hidden, written = apply_decoder(
        model,
        policy.params,
        policy.factors,
        tokens,
        (start + offsets)[None],
        inside,
        lora_scale=policy.lora_scale,
        cache=cache,
    )
    assert written is not None
    return hidden[0], written


@functools.partial(jax.jit, static_argnames=("model", "num_steps"), donate_argnames="cache")
def decode_steps(
    policy: Policy,
    cache: KeyValues,
    rows: Rows,
    ends: Bool[Array, " vocab"],
    *,
    model: Decoder,
    num_steps: int,
) -> tuple[Drawn, KeyValues]:
    """Return up to `num_steps` new tokens a row, and the cache with all but the last of them.

    A row stops when it draws one of `ends` or stands at its limit; the program ends early when all
    have. The cache must have room for `num_steps` positions after those of the rows.

    Args:
        policy: the weights.
        cache: with everything before the rows' last tokens; given up.
        rows: the sequences.
        ends: True for the token ids that end a sequence.
        model: the module.
        num_steps: most tokens drawn a row.
    """
    num_rows = rows.tokens.shape[0]
    out = Drawn(
        jnp.full((num_steps, num_rows), -1, jnp.int32),
        jnp.zeros((num_steps, num_rows), jnp.float32),
    )

    def unfinished(carry: _Carry) -> Bool[Array, ""]:
        return (carry.step < num_steps) & jnp.any(carry.alive)

    def step(carry: _Carry) -> _Carry:
        tokens, logprobs, cache = _next_tokens(policy, carry, rows, model)
        positions = carry.positions + carry.alive
        drawn = Drawn(
            carry.out.tokens.at[carry.step].set(jnp.where(carry.alive, tokens, -1)),
            carry.out.logprobs.at[carry.step].set(jnp.where(carry.alive, logprobs, 0.0)),
        )
        alive = carry.alive & ~ends[tokens] & (positions < rows.limits)
        return _Carry(carry.step + 1, tokens, positions, alive, cache, drawn)

    start = _Carry(
        jnp.int32(0), rows.tokens, rows.positions, rows.positions < rows.limits, cache, out
    )
    last = jax.lax.while_loop(unfinished, step, start)
    return last.out, last.cache


class _Carry(NamedTuple):
    step: Int[Array, ""]
    tokens: Int[Array, " rows"]
    positions: Int[Array, " rows"]
    alive: Bool[Array, " rows"]
    cache: KeyValues
    out: Drawn


def _next_tokens(
    policy: Policy, carry: _Carry, rows: Rows, model: Decoder
) -> tuple[Int[Array, " rows"], Float[Array, " rows"], KeyValues]:
    """Return each row's next token, its log-probability, and the cache with the token before it."""
    hidden, cache = apply_decoder(
        model,
        policy.params,
        policy.factors,
        carry.tokens[:, None],
        carry.positions[:, None],
        carry.alive.astype(jnp.int32)[:, None],
        lora_scale=policy.lora_scale,
        cache=carry.cache,
    )
    assert cache is not None
    logits = head_logits(hidden[:, 0], policy.head())
    drawn = draw_tokens(make_odds(logits, rows.settings), rows.keys, carry.positions + 1)
    tokens = jnp.where(is_greedy(rows.settings), most_likely(logits), drawn)
    return tokens, chosen_logprobs(logits, tokens), cache
