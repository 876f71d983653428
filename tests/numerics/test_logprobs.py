"""Target log-probabilities: the same whole and in chunks, with the plain formula's gradient."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# (jax.grad says nothing of what it returns)
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.numerics.cases import to_jax

from loops_backend_jax.losses.logprobs import (
    Head,
    chunk_tokens_for,
    head_logits,
    target_logprobs,
)

TOKENS, WIDTH, VOCAB, RANK = 10, 6, 23, 2
_g = np.random.default_rng(0)
HIDDEN, TABLE = _g.standard_normal((TOKENS, WIDTH)), _g.standard_normal((VOCAB, WIDTH))
LORA_A, LORA_B = _g.standard_normal((WIDTH, RANK)), _g.standard_normal((RANK, VOCAB))
HEADS = {
    "frozen": Head(to_jax(TABLE)),
    "adapted": Head(to_jax(TABLE), to_jax(LORA_A), to_jax(LORA_B), 0.5),
}
TARGETS = {
    "one": to_jax(_g.integers(0, VOCAB, TOKENS), np.int32),
    "several": to_jax(_g.integers(0, VOCAB, (TOKENS, 3)), np.int32),
}
# A dozen float32 roundings of numbers up to 20.
ATOL = 2e-5


def plain(hidden: jax.Array, head: Head, targets: jax.Array) -> jax.Array:
    logprobs = jax.nn.log_softmax(head_logits(hidden, head))
    flat = targets.reshape(len(targets), -1)
    return jnp.take_along_axis(logprobs, flat, axis=1).reshape(targets.shape)


@pytest.mark.parametrize("chunk_tokens", [1, 4, 10, 64])
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("head", HEADS)
def test_chunks_give_the_logprobs_of_the_whole(head: str, targets: str, chunk_tokens: int) -> None:
    hidden, one_head, ids = to_jax(HIDDEN), HEADS[head], TARGETS[targets]
    found = target_logprobs(hidden, one_head, ids, chunk_tokens=chunk_tokens)
    np.testing.assert_allclose(found, plain(hidden, one_head, ids), rtol=0, atol=ATOL)


@pytest.mark.parametrize("chunk_tokens", [4, 64])
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("head", HEADS)
def test_the_gradient_is_that_of_the_plain_formula(
    head: str, targets: str, chunk_tokens: int
) -> None:
    one_head, ids = HEADS[head], TARGETS[targets]
    weights = to_jax(np.random.default_rng(1).standard_normal(ids.shape))
    learned = (to_jax(HIDDEN), one_head.lora_a, one_head.lora_b)

    def loss(learned: tuple[jax.Array, ...], *, in_chunks: bool) -> jax.Array:
        now = one_head._replace(lora_a=learned[1], lora_b=learned[2])
        if in_chunks:
            found = target_logprobs(learned[0], now, ids, chunk_tokens=chunk_tokens)
        else:
            found = plain(learned[0], now, ids)
        return jnp.sum(weights * found**2)

    ours = jax.grad(lambda x: loss(x, in_chunks=True))(learned)
    theirs = jax.grad(lambda x: loss(x, in_chunks=False))(learned)
    for found, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        # gradients here are up to 100
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_an_impossible_logit_stays_finite() -> None:
    hidden = to_jax(np.full((1, WIDTH), 1e4))
    logprobs = target_logprobs(hidden, HEADS["frozen"], TARGETS["one"][:1], chunk_tokens=1)
    assert np.isfinite(np.asarray(logprobs)).all()


@pytest.mark.parametrize(
    ("num_tokens", "max_logits_bytes", "expected"),
    [(100, 4 * 1000 * 64, 64), (100, 4 * 1000 * 100, 64), (10, 1 << 40, 10), (10, 1, 1)],
)
def test_chunks_fit_the_bound(num_tokens: int, max_logits_bytes: int, expected: int) -> None:
    assert chunk_tokens_for(1000, num_tokens, max_logits_bytes) == expected
