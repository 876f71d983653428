"""Array arithmetic whose result is the same bytes on every platform.

IEEE 754 fixes the result of +, -, *, / and of scaling by powers of two, and NumPy's elementwise
loops round each of them once. What differs between machines is left out: `numpy.sum` (the order of
adding depends on the build and the processor), `sum` (Python 3.12 began to carry what is rounded
away; `math.fsum` always did), the C library's `exp`, `log` and `pow`, and random generators (their
streams may change from one NumPy to the next). Matrix products are in `loops_mock.products`. All of
it is float64.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LN2_HIGH: Final = 0.693147180369123816490
"""ln 2 in 32 bits, so that its product with a small integer is exact; the rest is the next."""

_LN2_LOW: Final = 1.90821492927058770002e-10
_LOG2_E: Final = 1.4426950408889634
_SMALLEST_EXPONENT: Final = -750.0
_LARGEST_EXPONENT: Final = 710.0

_STEPS: Final = 256
"""Powers of two between 1 and 2 in the table of `exp`."""

_GRID: Final = 64
"""Points between 1 and 2 in the table of `log`."""


def total(values: Floats) -> Floats:
    """Return the sums over the last axis, added by halves: their order is fixed by its length."""
    if not values.shape[-1]:
        return np.zeros(values.shape[:-1])
    # With that axis first, the halves are two pieces of memory.
    values = np.ascontiguousarray(values.transpose(-1, *range(values.ndim - 1)))
    while len(values) > 1:
        half, odd = divmod(len(values), 2)
        sums = values[:half] + values[half : 2 * half]
        values = np.concatenate([sums, values[2 * half :]]) if odd else sums
    return values[0]


def exp(x: Floats) -> Floats:
    """Return e to the x, infinite beyond float64, to 2 units in the last place; x is no NaN.

    Source:
        Tang, Table-Driven Implementation of the Exponential Function, ACM TOMS 15 (1989): reduction
        by multiples of ln 2 / 256; the first term that the polynomial leaves out is below 4e-17.
    """
    return _exp(np.minimum(np.maximum(x, _SMALLEST_EXPONENT), _LARGEST_EXPONENT))


def _exp(x: Floats) -> Floats:
    """Return e to the x for x that is neither below nor above all of float64."""
    n = np.rint(x * (_STEPS * _LOG2_E))
    r = x - n * (_LN2_HIGH / _STEPS)
    r -= n * (_LN2_LOW / _STEPS)
    series = r * (1.0 / 24.0)
    series += 1.0 / 6.0
    series *= r
    series += 0.5
    series *= r
    series += 1.0
    series *= r
    k = n.astype(np.int32)
    powers = _POWERS.take(k & (_STEPS - 1))
    series *= powers
    series += powers
    return np.ldexp(series, k >> 8)  # k // _STEPS


def log(x: Floats) -> Floats:
    """Return the natural logarithm of finite x > 0, to 2 units in the last place.

    Source:
        Tang, Table-Driven Implementation of the Logarithm Function, ACM TOMS 16 (1990): 2 artanh of
        (m - c) / (m + c) with c the next of the table's points, which leaves three terms.
    """
    m, n = np.frexp(x)
    low = m < 0.7071067811865476
    m, n = np.where(low, 2.0 * m, m), np.where(low, n - 1, n)
    nearest = np.rint(m * _GRID)
    c = nearest / _GRID
    f = (m - c) / (m + c)
    square = f * f
    series = square * (1.0 / 3.0 + square * (0.2 + square * (1.0 / 7.0)))
    tail = n * _LN2_LOW + 2.0 * (f + f * series)
    return n * _LN2_HIGH + (_LOGS[nearest.astype(np.intp)] + tail)


class Softmax(NamedTuple):
    """A distribution over the last axis: natural logs, and what it takes to make probabilities.

    Attributes:
        log_probs: log-probabilities.
        odds: what probabilities are proportional to.
        sums: of the odds, over the last axis.
    """

    log_probs: Floats
    odds: Floats
    sums: Floats


def softmax(logits: Floats) -> Softmax:
    """Return the distribution that logits make over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    odds = _exp(np.maximum(shifted, _SMALLEST_EXPONENT))
    sums = total(odds)
    return Softmax(shifted - log(sums)[..., None], odds, sums)


def power(base: float, exponent: int) -> float:
    """Return base to a whole number >= 0, by squaring."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def draw_uniform(key: str, *shape: int) -> Floats:
    """Return numbers in [0, 1) that are a function of `key`: 53 bits each of its SHAKE-256."""
    count = 1
    for size in shape:
        count *= size
    stream = hashlib.shake_256(key.encode()).digest(8 * count)
    bits = np.frombuffer(stream, dtype="<u8") >> np.uint64(11)
    return (bits.astype(np.float64) * 2.0**-53).reshape(shape)


def draw_one(key: str) -> float:
    """Return the first number of `draw_uniform` for the key."""
    bits = int.from_bytes(hashlib.shake_256(key.encode()).digest(8), "little") >> 11
    return bits * 2.0**-53


def _make_powers() -> Floats:
    """Return 2^(i / 256) for i < 256, by the Taylor series; its 21st term is below 1e-22."""
    x = np.arange(_STEPS) / _STEPS * _LN2_HIGH + np.arange(_STEPS) / _STEPS * _LN2_LOW
    series = np.ones(_STEPS)
    for k in range(20, 0, -1):
        series = 1.0 + x * series / k
    return series


def _make_logs() -> Floats:
    """Return ln(i / 64) for i up to 128, by the series of 2 artanh; 0 below 32."""
    points = np.maximum(np.arange(2 * _GRID + 1), _GRID // 2) / _GRID
    f = (points - 1.0) / (points + 1.0)
    series = np.zeros_like(f)
    for k in range(61, 1, -2):
        series = f * f * (1.0 / k + series)
    return 2.0 * (f + f * series)


_POWERS: Final = _make_powers()
_LOGS: Final = _make_logs()
