"""Log-probabilities of a prompt's own tokens, and the most likely tokens at its positions."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from loops_backend_jax.losses.logprobs import Head, chunk_tokens_for, head_logits
from loops_backend_jax.sample.decode import Policy


class Candidates(NamedTuple):
    """What a model expected at the positions of a piece of a prompt.

    Attributes:
        actual: [piece], log-probability of the token that stands there.
        top_tokens: [piece, k], the most likely tokens, in falling order.
        top_logprobs: [piece, k], their log-probabilities.
    """

    actual: Float[Array, " piece"]
    top_tokens: Int[Array, "piece k"]
    top_logprobs: Float[Array, "piece k"]


@functools.partial(jax.jit, static_argnames=("top_k", "max_logits_bytes"))
def rank_candidates(
    policy: Policy,
    hidden: Float[Array, "piece width"],
    targets: Int[Array, " piece"],
    *,
    top_k: int,
    max_logits_bytes: int,
) -> Candidates:
    """Return log-probabilities after each hidden vector, natural logs of the raw distribution.

    Logits are made for a few tokens at a time, so that they take no more than `max_logits_bytes`.

    Args:
        policy: the weights.
        hidden: last hidden vectors of the piece; anything where padded.
        targets: the token that follows each; anything in the vocabulary where padded.
        top_k: how many of the most likely tokens to return; 0 to the vocabulary's size.
        max_logits_bytes: bound of the logits alive at a time.
    """
    head = policy.head()
    piece, vocab_size = hidden.shape[0], head.unembedding.shape[0]
    chunk = chunk_tokens_for(vocab_size, piece, max_logits_bytes)
    one = functools.partial(_rank_chunk, head, top_k)
    if piece <= chunk:
        return one((hidden, targets))
    # Pieces and chunks are powers of two, so the chunks come out even.
    parts = jax.lax.map(
        one, (hidden.reshape(-1, chunk, hidden.shape[1]), targets.reshape(-1, chunk))
    )
    return jax.tree.map(lambda x: x.reshape(piece, *x.shape[2:]), parts)


def _rank_chunk(head: Head, top_k: int, pair: tuple[jax.Array, jax.Array]) -> Candidates:
    hidden, targets = pair
    logprobs = jax.nn.log_softmax(head_logits(hidden, head), axis=-1)
    actual = jnp.take_along_axis(logprobs, targets[:, None], axis=-1)[:, 0]
    top_logprobs, top_tokens = jax.lax.top_k(logprobs, top_k)
    return Candidates(actual, top_tokens, top_logprobs)
