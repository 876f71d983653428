"""Matrix products that are the same bytes on every platform, though BLAS computes them.

The order in which BLAS adds depends on the build and the processor, and only matters where adding
rounds. So operands are cut into two slices of few bits on a common grid, such that a sum over the
inner index of products of slices is an integer below 2^53 in units of the grid: whatever the order,
nothing is rounded. The products of slices are then added in a fixed order. With n bits a slice,
what is cut off an entry is below 2^-2n of the largest one: 2^-42 for sums of up to 2048 products.

Source:
    Ozaki, Ogita, Oishi and Rump, Error-free transformations of matrix multiplication by using fast
    routines of matrix multiplication, Numerical Algorithms 59 (2012).
"""

from __future__ import annotations

import math

import numpy as np

from loops_mock.exact import Floats

Slices = Floats
"""A matrix in two slices, [2, rows, columns]: leading bits of every entry, then the next ones."""


def bits_for(inner: int) -> int:
    """Return how many bits a slice may have where products have up to `inner` terms."""
    return (53 - (inner - 1).bit_length()) // 2


def matmul(a: Floats, b: Floats) -> Floats:
    """Return the product of two matrices."""
    bits = bits_for(a.shape[1])
    return multiply(cut(a, bits), cut(b, bits))


def multiply(a: Slices, b: Slices) -> Floats:
    """Return the product of two matrices, whose bits are those for the inner size or fewer.

    A row of the product depends on its own row of `a` only, if that was cut at a given exponent.
    """
    rows = a.shape[1]
    both = a.reshape(2 * rows, a.shape[2]) @ b[0]  # high @ high, low @ high
    both[rows:] += a[0] @ b[1]
    both[:rows] += both[rows:]
    return both[:rows]


def transpose(a: Slices) -> Slices:
    """Return the transposed matrix."""
    return a.transpose(0, 2, 1)


def cut(x: Floats, bits: int, *, exponent: int | None = None) -> Slices:
    """Return a matrix in slices.

    Args:
        x: any finite numbers.
        bits: of a slice.
        exponent: |x| <= 2^exponent; None: that of the largest entry.
    """
    if exponent is None:
        exponent = math.frexp(float(np.abs(x).max()))[1] if x.size else 0
    slices: Floats = np.empty((2, *x.shape))
    high: Floats = slices[0]
    low: Floats = slices[1]
    # Adding 1.5 * 2^(52 + e) and taking it away rounds to a multiple of 2^e.
    grid = math.ldexp(1.5, 52 + exponent - bits)
    np.add(x, grid, out=high)
    high -= grid
    np.subtract(x, high, out=low)
    grid = math.ldexp(1.5, 52 + exponent - 2 * bits)
    low += grid
    low -= grid
    return slices
