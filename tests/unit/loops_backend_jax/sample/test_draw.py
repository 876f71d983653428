"""A token is drawn as often as its odds say, by a key of (seed, sample, position) alone."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false
# JAX types its functions in part.
from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loops_backend_jax.sample.draw import BLOCK, draw_tokens, sample_keys, seed_key

pytestmark = pytest.mark.slow  # every shape compiles

DRAWS = 4096
DRAW = jax.jit(draw_tokens)


def draw(odds: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Return DRAWS tokens from one row of odds, one for each of as many samples."""
    keys = sample_keys(seed_key(seed), jnp.arange(DRAWS))
    rows = jnp.tile(jnp.asarray(odds, jnp.float32), (DRAWS, 1))
    return np.asarray(DRAW(rows, keys, jnp.full(DRAWS, 5)))


@pytest.mark.parametrize("vocab", [7, BLOCK, BLOCK + 3, 1000])
def test_frequencies_fit_the_odds(vocab: int) -> None:
    odds = np.exp(np.random.default_rng(vocab).normal(0, 1.5, vocab)).astype(np.float32)
    counts = np.bincount(draw(odds), minlength=vocab)
    expected = odds / odds.sum() * DRAWS
    order = np.argsort(expected)
    # A chi-square needs some 5 expected draws a class: neighbours in size are put together.
    classes = np.floor(np.cumsum(expected[order]) / 8).astype(int)
    found, wanted = (np.bincount(classes, x[order]) for x in (counts, expected))
    keep = np.unique(classes)
    chi_square = float(((found[keep] - wanted[keep]) ** 2 / wanted[keep]).sum())
    freedom = len(keep) - 1
    # Mean `freedom`, variance twice that: four deviations happen to one honest seed in 10,000.
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5


def test_a_token_of_odds_zero_is_never_drawn() -> None:
    odds = np.zeros(3 * BLOCK, np.float32)
    odds[[0, BLOCK - 1, BLOCK + 7, 3 * BLOCK - 1]] = [1e-6, 1.0, 0.3, 1e-3]
    assert set(draw(odds).tolist()) <= {0, BLOCK - 1, BLOCK + 7, 3 * BLOCK - 1}


def test_a_lonely_token_of_tiny_odds_is_drawn() -> None:
    odds = np.zeros(BLOCK * 2, np.float32)
    odds[BLOCK + 1] = 1e-37
    assert set(draw(odds).tolist()) == {BLOCK + 1}


def test_a_row_draws_the_same_alone_and_among_others() -> None:
    rng = np.random.default_rng(1)
    odds = jnp.asarray(np.exp(rng.normal(0, 2, (6, 300))), jnp.float32)
    keys, positions = sample_keys(seed_key(3), jnp.arange(6)), jnp.arange(6) + 40
    together = DRAW(odds, keys, positions)
    alone = [DRAW(odds[i : i + 1], keys[i : i + 1], positions[i : i + 1]) for i in range(6)]
    assert together.tolist() == jnp.concatenate(alone).tolist()


def test_seed_sample_and_position_each_change_the_draw() -> None:
    odds = jnp.ones((1, 2**16), jnp.float32)

    def one(seed: int, sample: int, position: int) -> int:
        keys = sample_keys(seed_key(seed), jnp.array([sample]))
        return int(DRAW(odds, keys, jnp.array([position]))[0])

    drawn = [one(0, 0, 0), one(1, 0, 0), one(0, 1, 0), one(0, 0, 1)]
    assert len(set(drawn)) == 4
    assert drawn[0] == one(0, 0, 0)


@pytest.mark.parametrize("seed", [-1, 2**32, 2**63, 2**200])
def test_any_integer_is_a_seed_of_its_own(seed: int) -> None:
    words = [jax.random.key_data(seed_key(s)).tolist() for s in (seed, seed + 1, seed % 2**32)]
    assert words[0] != words[1]
    assert (words[0] == words[2]) is (seed == seed % 2**32)
