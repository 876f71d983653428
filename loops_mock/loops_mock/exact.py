"""Array arithmetic whose result is the same bytes on every platform.

IEEE 754 fixes the result of +, -, *, / and of scaling by powers of two, and NumPy's elementwise
loops round each of them once. What differs between machines is left out: BLAS products and
`numpy.sum` (the order of adding depends on the build and the processor), the C library's `exp`,
`log` and `pow`, and random generators (their streams may change from one NumPy to the next). All of
it is float64.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LOG2_E: Final = 1.4426950408889634
_LN2_HIGH: Final = 0.693147180369123816490
_LN2_LOW: Final = 1.90821492927058770002e-10
_SMALLEST_EXPONENT: Final = -750.0


def matmul(a: Floats, b: Floats) -> Floats:
    """Return the product of two matrices, each entry added up in the order of the inner index."""
    product = np.zeros((a.shape[0], b.shape[1]))
    for k in range(b.shape[0]):
        product += a[:, k, None] * b[k]
    return product


def total(values: Floats) -> Floats:
    """Return the sums over the last axis, added by halves: their order is fixed by its length."""
    while values.shape[-1] > 1:
        half = values.shape[-1] // 2
        rest = values[..., 2 * half :]
        values = np.concatenate([values[..., :half] + values[..., half : 2 * half], rest], axis=-1)
    return values[..., 0] if values.shape[-1] else np.zeros(values.shape[:-1])


def exp(x: Floats) -> Floats:
    """Return e to the x for finite or -inf x up to 700, to 2 units in the last place.

    Source:
        Cody and Waite, Software Manual for the Elementary Functions (1980), chapter 6: reduction by
        a split ln 2; here with the Taylor series, whose 14th term is below 1e-17 on what is left.
    """
    x = np.maximum(x, _SMALLEST_EXPONENT)
    n = np.rint(x * _LOG2_E)
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    series = np.ones_like(r)
    for k in range(14, 0, -1):
        series = 1.0 + series * r / k
    return np.ldexp(series, n.astype(np.int32))


def log(x: Floats) -> Floats:
    """Return the natural logarithm of finite x > 0, to 2 units in the last place.

    Source:
        Cody and Waite (1980), chapter 5: 2 artanh((m - 1) / (m + 1)) with m near 1, here with the
        Taylor series.
    """
    m, n = np.frexp(x)
    low = m < 0.7071067811865476
    m, n = np.where(low, 2.0 * m, m), np.where(low, n - 1, n)
    f = (m - 1.0) / (m + 1.0)
    square = f * f
    series = np.zeros_like(f)
    for k in range(23, 1, -2):
        series = square * (1.0 / k + series)
    return n * _LN2_HIGH + (n * _LN2_LOW + 2.0 * (f + f * series))


def log_softmax(logits: Floats) -> Floats:
    """Return log-probabilities, natural log, over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - log(total(exp(shifted)))[..., None]


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
    count = int(np.prod(shape, dtype=np.int64))
    stream = hashlib.shake_256(key.encode()).digest(8 * count)
    bits = np.frombuffer(stream, dtype="<u8") >> np.uint64(11)
    return (bits.astype(np.float64) * 2.0**-53).reshape(shape)
