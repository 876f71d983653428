"""What the exact arithmetic promises: right values, in an order that the shape fixes."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_mock import exact

# Both functions are within one unit in the last place of the C library, which has up to one itself.
TWO_UNITS = 2 * np.finfo(np.float64).eps


def test_exp_is_e_to_the_x() -> None:
    x = np.concatenate([np.linspace(-700.0, 700.0, 10_001), np.linspace(-1.0, 1.0, 1_001)])
    np.testing.assert_allclose(exact.exp(x), np.exp(x), rtol=TWO_UNITS)


def test_exp_of_minus_infinity_is_zero() -> None:
    assert exact.exp(np.array([-np.inf, -1e300])).tolist() == [0.0, 0.0]


def test_log_is_the_natural_logarithm() -> None:
    x = np.concatenate([np.geomspace(1e-300, 1e300, 10_001), np.linspace(0.5, 2.0, 1_001)])
    np.testing.assert_allclose(exact.log(x), np.log(x), rtol=TWO_UNITS, atol=1e-17)


def test_log_of_one_is_zero() -> None:
    assert exact.log(np.ones(1)).tolist() == [0.0]


@given(st.integers(0, 40), st.integers(1, 5))
def test_total_sums_the_last_axis(length: int, rows: int) -> None:
    values = np.arange(float(rows * length)).reshape(rows, length)
    assert exact.total(values).tolist() == values.sum(axis=-1).tolist()


def test_exp_beyond_float64_is_infinite() -> None:
    with np.errstate(over="ignore"):
        assert exact.exp(np.array([710.0, np.inf])).tolist() == [math.inf, math.inf]


def test_softmax_holds_probabilities_and_their_logs() -> None:
    found = exact.softmax(50.0 * exact.draw_uniform("logits", 3, 8))
    # The probabilities of a row are eight roundings away from a sum of one.
    np.testing.assert_allclose(np.exp(found.log_probs).sum(axis=-1), 1.0, rtol=1e-14)
    np.testing.assert_allclose(
        found.odds / found.sums[:, None], np.exp(found.log_probs), rtol=1e-14
    )


@given(st.floats(0.0, 1.0), st.integers(0, 300))
def test_power_is_repeated_multiplication(base: float, exponent: int) -> None:
    # Each of at most 16 multiplications adds half a unit, doubled by each squaring behind it.
    assert exact.power(base, exponent) == pytest.approx(base**exponent, rel=1e-13, abs=1e-300)


def test_draws_are_a_function_of_their_key() -> None:
    assert exact.draw_uniform("k", 3).tolist() == exact.draw_uniform("k", 3).tolist()
    assert exact.draw_uniform("k", 3).tolist() != exact.draw_uniform("l", 3).tolist()


def test_draws_are_uniform_below_one() -> None:
    draws = exact.draw_uniform("many", 100_000)
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    # Five standard deviations of the mean of 100,000 uniform numbers; the key is fixed.
    assert draws.mean() == pytest.approx(0.5, abs=5 / math.sqrt(12 * 100_000))


def test_the_first_draw_is_pinned() -> None:
    bits = int.from_bytes(hashlib.shake_256(b"pinned").digest(8), "little") >> 11
    assert exact.draw_uniform("pinned", 1).tolist() == [bits / 2**53]
    assert exact.draw_one("pinned") == exact.draw_uniform("pinned", 3)[0]
    assert exact.draw_uniform("pinned", 1)[0] == float.fromhex("0x1.fe579bbfa761fp-1")
