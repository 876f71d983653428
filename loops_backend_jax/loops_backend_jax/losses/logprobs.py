"""Target log-probabilities from hidden vectors, without ever holding [tokens, vocab] at once.

Tokens go through the unembedding in chunks. Where the unembedding is frozen, the gradient needs no
second product with it for the logits: d logprob(y) / d hidden = E[y] - sum_v p(v) E[v], and the
second term, the expected embedding, is kept from the forward pass: one vector a token.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from loops_backend_jax.lora.adapter import UNEMBEDDING_TARGET, Factors, lora_delta
from loops_backend_jax.lora.tree import get_array, get_branch


class Head(NamedTuple):
    """What turns hidden vectors into logits.

    Attributes:
        unembedding: [vocab, width], frozen.
        lora_a, lora_b: the adapter's update of it, [width, rank] and [rank, vocab]; None without.
        lora_scale: scalar factor of that update.
    """

    unembedding: jax.Array
    lora_a: jax.Array | None = None
    lora_b: jax.Array | None = None
    lora_scale: jax.Array | float = 0.0


def make_head(
    unembedding: Float[Array, "vocab width"],
    factors: Factors | None,
    lora_scale: float | Float[Array, ""],
) -> Head:
    """Return the head of a model with an adapter's factors; None: the base alone."""
    if factors is None or UNEMBEDDING_TARGET not in factors:
        return Head(unembedding)
    own = get_branch(factors, (UNEMBEDDING_TARGET,))
    return Head(unembedding, get_array(own, ("lora_a",)), get_array(own, ("lora_b",)), lora_scale)


def target_logprobs(
    hidden: Float[Array, "tokens width"],
    head: Head,
    targets: Int[Array, "tokens ..."],
    *,
    chunk_tokens: int,
) -> Float[Array, "tokens ..."]:
    """Return the natural log-probability of each target, float32, in the shape of `targets`.

    Args:
        hidden: last hidden vectors.
        head: the unembedding, and its adapter if it has one.
        targets: token ids in the vocabulary, one or K a token; the caller replaces -100 before and
            masks after.
        chunk_tokens: how many tokens' logits are alive at a time.
    """
    flat = targets.reshape(targets.shape[0], -1)
    logprobs: jax.Array
    if head.lora_a is None:
        logprobs = _frozen_head(hidden, head.unembedding, flat, chunk_tokens)
    else:
        one = jax.checkpoint(functools.partial(_logprobs, head))
        logprobs = _chunked(one, chunk_tokens)(hidden, flat)
    return logprobs.reshape(targets.shape)


def top_logprobs(
    hidden: Float[Array, "tokens width"], head: Head, *, count: int, chunk_tokens: int
) -> tuple[Int[Array, "tokens count"], Float[Array, "tokens count"]]:
    """Return the likeliest tokens of each position and their natural log-probabilities, float32.

    The likeliest first; of equals the lower id. No gradient passes.

    Args:
        hidden: last hidden vectors.
        head: the unembedding, and its adapter if it has one.
        count: how many tokens, at most the vocabulary.
        chunk_tokens: how many tokens' logits are alive at a time.
    """

    def one(hidden: jax.Array, _: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = head_logits(hidden, head)
        best, ids = jax.lax.top_k(logits, count)
        return ids, best - jax.nn.logsumexp(logits, axis=-1, keepdims=True)

    fixed = jax.lax.stop_gradient(hidden)
    found: tuple[jax.Array, jax.Array] = _chunked(one, chunk_tokens)(fixed, fixed[:, :1])
    return jax.lax.stop_gradient(found)


def head_logits(hidden: Float[Array, "*tokens width"], head: Head) -> Float[Array, "*tokens vocab"]:
    """Return float32 logits of a few tokens: for sampling, and chunk by chunk above."""
    logits = (hidden @ head.unembedding.astype(hidden.dtype).T).astype(jnp.float32)
    if head.lora_a is None or head.lora_b is None:
        return logits
    return logits + lora_delta(hidden, head.lora_a, head.lora_b, scale=head.lora_scale)


def chunk_tokens_for(vocab_size: int, num_tokens: int, max_logits_bytes: int) -> int:
    """Return how many tokens to take at a time: a power of two whose logits fit the bound."""
    fitting = max(1, max_logits_bytes // (4 * vocab_size))
    return min(1 << (fitting.bit_length() - 1), num_tokens)


def _logprobs(head: Head, hidden: jax.Array, targets: jax.Array) -> jax.Array:
    logits = head_logits(hidden, head)
    chosen = jnp.take_along_axis(logits, targets, axis=-1)
    return chosen - jax.nn.logsumexp(logits, axis=-1, keepdims=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _frozen_head(
    hidden: jax.Array, unembedding: jax.Array, targets: jax.Array, chunk_tokens: int
) -> jax.Array:
    one = functools.partial(_logprobs, Head(unembedding))
    return _chunked(one, chunk_tokens)(hidden, targets)


def _frozen_head_forward(
    hidden: jax.Array, unembedding: jax.Array, targets: jax.Array, chunk_tokens: int
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    def one(hidden: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = head_logits(hidden, Head(unembedding))
        shifted = logits - jnp.max(logits, axis=-1, keepdims=True)
        weights = jnp.exp(shifted)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        logprobs = jnp.take_along_axis(shifted, targets, axis=-1) - jnp.log(total)
        expected = weights.astype(hidden.dtype) @ unembedding.astype(hidden.dtype)
        return logprobs, (expected / total.astype(hidden.dtype)).astype(hidden.dtype)

    logprobs, expected = _chunked(one, chunk_tokens)(hidden, targets)
    return logprobs, (expected, unembedding, targets)


def _frozen_head_backward(
    _chunk_tokens: int, kept: tuple[jax.Array, ...], gradient: jax.Array
) -> tuple[jax.Array, None, None]:
    expected, unembedding, targets = kept
    gradient = gradient.astype(expected.dtype)
    chosen = jnp.zeros_like(expected)
    for k in range(targets.shape[1]):  # one [tokens, width] gather at a time
        chosen += gradient[:, k, None] * unembedding[targets[:, k]].astype(expected.dtype)
    return chosen - jnp.sum(gradient, axis=1, keepdims=True) * expected, None, None


_frozen_head.defvjp(_frozen_head_forward, _frozen_head_backward)


def _chunked(function: Callable[..., Any], chunk_tokens: int) -> Callable[..., Any]:
    """Return `function` applied to `chunk_tokens` tokens at a time, its results put together."""

    def whole(hidden: jax.Array, targets: jax.Array) -> Any:
        tokens = hidden.shape[0]
        if tokens <= chunk_tokens:
            return function(hidden, targets)
        missing = -tokens % chunk_tokens

        def split(x: jax.Array) -> jax.Array:
            return jnp.pad(x, ((0, missing), (0, 0))).reshape(-1, chunk_tokens, x.shape[1])

        parts = jax.lax.map(lambda pair: function(*pair), (split(hidden), split(targets)))
        return jax.tree.map(lambda x: x.reshape(-1, x.shape[-1])[:tokens], parts)

    return whole
