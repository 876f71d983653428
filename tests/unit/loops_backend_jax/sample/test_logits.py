"""Odds are the exact softmax of what is kept; compared with a sort in NumPy, in float64."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false
# JAX types its functions in part.
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_backend_jax.sample.logits import (
    DrawSettings,
    chosen_logprobs,
    is_greedy,
    make_odds,
    most_likely,
)

pytestmark = pytest.mark.slow  # every shape compiles

VOCAB = 23
MAKE_ODDS = jax.jit(make_odds)


def settings(
    rows: int, *, temperature: float = 1.0, top_k: int = VOCAB, top_p: float = 1.0
) -> DrawSettings:
    return DrawSettings(
        jnp.full(rows, temperature, jnp.float32),
        jnp.full(rows, top_k, jnp.int32),
        jnp.full(rows, top_p, jnp.float32),
    )


def exact_probabilities(
    logits: np.ndarray, *, temperature: float, top_k: int, top_p: float
) -> np.ndarray:
    """Return one row's probabilities: divide, sort, keep k, keep p, divide by the sum."""
    scaled = (logits.astype(np.float64) - logits.max()) / temperature
    odds = np.exp(scaled)
    order = np.argsort(-odds, kind="stable")
    odds[order[top_k:]] = 0.0
    sums = np.cumsum(odds[order]) / odds.sum()
    odds[order[1 + np.searchsorted(sums, top_p) :]] = 0.0
    return odds / odds.sum()


def probabilities(logits: np.ndarray, how: DrawSettings) -> np.ndarray:
    odds = np.asarray(MAKE_ODDS(jnp.asarray(logits), how), np.float64)
    return odds / odds.sum(axis=-1, keepdims=True)


@given(
    seed=st.integers(0, 2**32 - 1),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.integers(1, VOCAB),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 0.99, 1.0]),
)
def test_odds_are_the_softmax_of_the_kept_tokens(
    seed: int, temperature: float, top_k: int, top_p: float
) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (4, VOCAB)).astype(np.float32)
    found = probabilities(logits, settings(4, temperature=temperature, top_k=top_k, top_p=top_p))
    exact = [
        exact_probabilities(row, temperature=temperature, top_k=top_k, top_p=top_p)
        for row in logits
    ]
    # float32 against float64: an exponent of size 50 has a rounding of 50 * 2**-24 = 3e-6.
    np.testing.assert_allclose(found, np.stack(exact), rtol=2e-5, atol=1e-12)


@given(st.integers(1, VOCAB))
def test_top_k_keeps_exactly_k_of_equal_tokens_the_lowest_ids(top_k: int) -> None:
    logits = np.zeros((1, VOCAB), np.float32)
    kept = probabilities(logits, settings(1, top_k=top_k))[0]
    assert np.flatnonzero(kept).tolist() == list(range(top_k))


def test_top_p_of_equal_tokens_keeps_the_lowest_ids() -> None:
    logits = np.zeros((1, 8), np.float32)
    kept = probabilities(logits, settings(1, top_p=0.5, top_k=8))[0]
    assert np.flatnonzero(kept).tolist() == [0, 1, 2, 3]


def test_top_p_keeps_the_first_token_however_small() -> None:
    logits = np.array([[0.0, 5.0, 1.0]], np.float32)
    kept = probabilities(logits, settings(1, top_p=1e-9, top_k=3))[0]
    assert kept.tolist() == [0.0, 1.0, 0.0]


def test_each_row_follows_its_own_settings() -> None:
    logits = np.tile(np.arange(6, dtype=np.float32), (4, 1))
    how = DrawSettings(
        jnp.array([1.0, 0.5, 0.0, 1.0], jnp.float32),
        jnp.array([2, 6, 1, 6], jnp.int32),
        jnp.array([1.0, 0.6, 1.0, 1.0], jnp.float32),
    )
    found = probabilities(logits, how)
    for row, temperature, top_k, top_p in [(0, 1, 2, 1), (1, 0.5, 6, 0.6), (3, 1, 6, 1)]:
        exact = exact_probabilities(logits[row], temperature=temperature, top_k=top_k, top_p=top_p)
        np.testing.assert_allclose(found[row], exact, rtol=1e-5)
    assert is_greedy(how).tolist() == [False, False, True, False]


def test_a_row_that_is_not_cut_keeps_its_unlikeliest_token_beside_one_that_is() -> None:
    logits = np.tile(np.array([0.0, -1.0, -70.0], np.float32), (2, 1))
    how = settings(2, top_k=3)._replace(top_p=jnp.array([0.5, 1.0], jnp.float32))
    found = probabilities(logits, how)
    assert found[0].tolist() == [1.0, 0.0, 0.0]
    assert found[1, 2] > 0


@pytest.mark.parametrize("temperature", [1e-30, 1e-10])
def test_a_tiny_temperature_leaves_the_most_likely_token(temperature: float) -> None:
    logits = np.array([[1.0, 3.0, 2.999]], np.float32)
    found = probabilities(logits, settings(1, temperature=temperature, top_k=3))
    assert found.tolist() == [[0.0, 1.0, 0.0]]


def test_a_huge_temperature_makes_all_tokens_equally_likely() -> None:
    found = probabilities(
        np.array([[-30.0, 0.0, 30.0, 1.0]], np.float32), settings(1, temperature=3e38, top_k=4)
    )
    assert found.tolist() == [[0.25] * 4]


def test_most_likely_is_the_lowest_id_among_equals() -> None:
    logits = jnp.array([[1.0, 7.0, 7.0], [2.0, -1.0, 2.0]], jnp.float32)
    assert most_likely(logits).tolist() == [1, 0]


def test_chosen_logprobs_are_those_of_the_raw_distribution() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (3, VOCAB)).astype(np.float32)
    tokens = np.array([0, 22, 7], np.int32)
    wide = logits.astype(np.float64)
    exact = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    found = chosen_logprobs(jnp.asarray(logits), jnp.asarray(tokens))
    # One rounding of numbers of size 10 to 20 in float32 is 1e-6.
    np.testing.assert_allclose(np.asarray(found), exact[np.arange(3), tokens], atol=5e-6)
