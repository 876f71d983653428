"""Matrix products: right, the same whatever the order of adding, the same alone and together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_mock.exact import Floats, draw_uniform
from loops_mock.products import bits_for, cut, matmul, multiply, transpose


def draw(key: str, *shape: int, scale: float = 1.0) -> Floats:
    """Return numbers of both signs over many orders of magnitude."""
    return scale * (draw_uniform(key, *shape) - 0.5) * 2.0 ** (40 * draw_uniform(f"{key}2", *shape))


@pytest.mark.parametrize("inner", [1, 2, 3, 16, 256, 2048])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_matmul_is_the_matrix_product(inner: int, scale: float) -> None:
    a, b = draw("a", 4, inner, scale=scale), draw("b", inner, 5)
    bound = inner * np.abs(a).max() * np.abs(b).max()
    # Two slices of at least 21 bits leave 2^-42 of the largest entries in each of both operands.
    np.testing.assert_allclose(matmul(a, b), a @ b, rtol=0, atol=2.0**-41 * bound)


@given(st.permutations(range(12)), st.integers(0, 9))
def test_the_order_of_adding_does_not_matter(order: list[int], key: int) -> None:
    a, b = draw(f"a{key}", 3, 12), draw(f"b{key}", 12, 4)
    assert matmul(a[:, order], b[order]).tolist() == matmul(a, b).tolist()


@pytest.mark.parametrize("inner", [7, 256, 2048])
def test_no_partial_sum_is_rounded(inner: int) -> None:
    """Python adds the same slices without rounding, as integers and fractions."""
    bits = bits_for(inner)
    a, b = cut(draw("a", 1, inner), bits), cut(draw("b", inner, 1), bits)
    for left, right in ((0, 0), (0, 1), (1, 0)):
        row, column = a[left, 0].tolist(), b[right, :, 0].tolist()
        pairs = zip(
            map(float.as_integer_ratio, row), map(float.as_integer_ratio, column), strict=True
        )
        whole = sum(n * m * (2**200 // (d * e)) for (n, d), (m, e) in pairs)
        assert float((a[left] @ b[right])[0, 0]) == whole / 2**200


@pytest.mark.parametrize("inner", [3, 255, 2047])
def test_the_largest_sum_is_not_rounded(inner: int) -> None:
    """All entries are as large as a slice can be, and the sum is odd in units of the grid."""
    bits = bits_for(inner)
    largest = 2**bits - 1
    a = cut(np.full((1, inner), largest / 2**bits), bits)
    found = float(multiply(a, transpose(a))[0, 0])
    assert int(found * 4.0**bits) == inner * largest**2


def test_a_row_of_a_product_is_the_same_alone_and_among_others() -> None:
    a, b = draw("a", 9, 7, scale=2.0**-42), cut(draw("b", 7, 6), 25)
    alone = [multiply(cut(a[i : i + 1], 25, exponent=0), b)[0].tolist() for i in range(9)]
    assert multiply(cut(a, 25, exponent=0), b).tolist() == alone


def test_zeros_and_empty_matrices_have_products() -> None:
    assert matmul(np.zeros((2, 3)), np.zeros((3, 1))).tolist() == [[0.0], [0.0]]
    assert matmul(np.zeros((0, 3)), np.zeros((3, 1))).shape == (0, 1)
