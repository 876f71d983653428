"""What reading values promises: whatever a conversion would change is refused, and named."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from loops_core.types.arrays import FLOATS, numpy_dtype
from loops_core.types.tensor import TensorData

INTEGERS = {"int64": 64, "int32": 32, "int8": 8}


def refusal(data: object, dtype: object = "float32", shape: object = None) -> str:
    """Return the message of the ValidationError that this tensor gives."""
    fields = {"data": data, "dtype": dtype, "shape": [1] if shape is None else shape}
    with pytest.raises(ValidationError) as caught:
        TensorData.model_validate(fields)
    return str(caught.value)


@pytest.mark.parametrize(
    "data",
    ["abc", b"abc", 5, 5.0, {1}, {"a": 1}, None, range(3), iter([1]), object()],
    ids=lambda data: type(data).__name__,
)
def test_what_is_no_list_and_no_array_is_refused(data: object) -> None:
    assert "data must be a list or an array" in refusal(data)


@pytest.mark.parametrize(
    "data",
    [
        ["1"],
        [b"1"],
        [1, "a"],
        [None, "a"],
        [1j],
        [None, 1j],
        [Decimal(1)],
        [...],
        [{}],
        [np.datetime64("2020-01-01")],
        np.array(["1"]),
        np.array([1j]),
        np.array([None, 1.0]),
        np.array([b"1"]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_what_is_no_number_is_refused(data: object, dtype: str) -> None:
    assert "data" in refusal(data, dtype)


@pytest.mark.parametrize(
    "data", [[[1], [2, 3]], [1, [2]], [[None], 1], [[[1]], [[1, 2]]]], ids=repr
)
def test_ragged_lists_are_refused(data: object) -> None:
    assert "data" in refusal(data, shape=[3])


@pytest.mark.parametrize("dtype", ["float", "float8", "uint16", "", None, 5, np.int64, "FLOAT32"])
def test_an_unknown_dtype_is_refused_with_the_known_ones(dtype: object) -> None:
    message = refusal([1], dtype)
    assert "dtype" in message
    assert dtype is None or "float32, int64" in message


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint64", "complex64", "longdouble"])
def test_an_array_of_a_dtype_that_tensors_lack_is_refused(dtype: str) -> None:
    name = np.dtype(dtype).name
    with pytest.raises(ValidationError, match=f"not '?{name}"):
        TensorData.model_validate({"data": np.zeros(2, dtype=dtype)})


@pytest.mark.parametrize("shape", [3, "3", [1.0], [True], [-1], [[1]], [None], {"a": 1}], ids=repr)
def test_a_shape_that_is_no_list_of_sizes_is_refused(shape: object) -> None:
    assert "shape must be a list of integers >= 0" in refusal([1], shape=shape)


@given(st.lists(st.integers(0, 4), max_size=3), st.integers(0, 20).map(lambda n: [0.0] * n))
def test_the_product_of_the_shape_is_the_number_of_values(
    shape: list[int], data: list[float]
) -> None:
    if math.prod(shape) == len(data):
        assert TensorData(data=data, dtype="float32", shape=shape).shape == shape
    else:
        message = refusal(data, shape=shape)
        assert f"shape {shape} holds {math.prod(shape)} values, but data has {len(data)}" in message


def test_a_shape_that_contradicts_the_nesting_is_refused() -> None:
    message = refusal([[1, 2, 3], [4, 5, 6]], shape=[3, 2])
    assert "shape [3, 2] is not the nesting of data, [2, 3]" in message


def test_sizes_of_numpy_are_sizes() -> None:
    tensor = TensorData.model_validate(
        {"data": [1.0, 2.0], "dtype": "float32", "shape": (np.int64(2), 1)}
    )
    assert tensor.shape == [2, 1]
    assert type(tensor.shape[0]) is int


@pytest.mark.parametrize("dtype", INTEGERS)
@given(data=st.data())
def test_integers_are_kept_or_refused_never_wrapped(dtype: str, data: st.DataObject) -> None:
    bits = INTEGERS[dtype]
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    value = data.draw(
        st.integers(2 * low, 2 * high) | st.sampled_from([low - 1, low, high, high + 1])
    )
    if low <= value <= high:
        assert TensorData(data=[0, value], dtype=dtype, shape=[2]).tolist() == [0, value]
    else:
        message = refusal([0, value], dtype, [2])
        assert f"outside {dtype}" in message or "no integer" in message


@pytest.mark.parametrize(
    ("dtype", "value"), [("uint8", 256), ("uint8", -1), ("bool", 2), ("bool", -1)]
)
def test_narrow_dtypes_have_their_ranges(dtype: str, value: int) -> None:
    assert f"data[1] is {value}, outside {dtype}" in refusal([1, value], dtype, [2])


@pytest.mark.parametrize(
    "value", [10**30, -(10**30), 10**400, 2**64], ids=["30", "-30", "400", "64"]
)
def test_integers_beyond_64_bits_are_refused(value: int) -> None:
    assert "outside int64" in refusal([value], "int64")
    assert "data" in refusal([None, value], "int64", [2])
    assert "data" in refusal([0.0, value], "int64", [2])


def test_integers_beyond_64_bits_are_rounded_to_floats() -> None:
    lists: list[list[float | None]] = [[10**30], [10**30, None], [10**30, 0.5]]
    for data in lists:
        tensor = TensorData(data=data, dtype="float32", shape=[len(data)])
        assert tensor.data[0] == np.float32(1e30)
    assert "beyond the range" in refusal([10**400])
    assert "beyond the range" in refusal([None, 10**400], shape=[2])


@pytest.mark.parametrize("value", [2**53 + 2, -(2**63) - 1, 1e17])
def test_integers_that_floats_beside_them_may_have_rounded_are_refused(value: float) -> None:
    assert "data[0]" in refusal([value, 1.0], "int64", [2])


@pytest.mark.parametrize("value", [0.5, math.nan, math.inf, -math.inf, 1e300, None])
@pytest.mark.parametrize("dtype", ["int64", "int8", "bool"])
def test_what_is_no_integer_is_refused_among_integers(value: float | None, dtype: str) -> None:
    message = refusal([1, value, 0], dtype, [3])
    assert "data[1]" in message
    assert dtype in message


def test_a_whole_float_in_a_list_is_an_integer() -> None:
    text = '{"data": [1.0, 2], "dtype": "int64", "shape": [2]}'
    assert TensorData.model_validate_json(text).tolist() == [1, 2]


def test_an_array_of_floats_is_no_array_of_integers() -> None:
    assert "needs integers, but data is float32" in refusal(np.ones(1, dtype=np.float32), "int64")


@pytest.mark.parametrize(
    ("dtype", "largest"), [("float16", 65504.0), ("float32", 3.4028234e38), ("bfloat16", 3.38e38)]
)
def test_a_finite_number_never_becomes_infinite(dtype: str, largest: float) -> None:
    assert np.isfinite(TensorData(data=[largest], dtype=dtype, shape=[1]).to_numpy()).all()
    for value in (largest * 1.01, -largest * 1.01):
        assert f"beyond the range of {dtype}" in refusal([0.0, value], dtype, [2])
    held = TensorData(data=[math.inf, -math.inf], dtype=dtype, shape=[2]).tolist()
    assert held == [math.inf, -math.inf]


@pytest.mark.parametrize("source", ["float64", "int64", "int8", "bool"])
@pytest.mark.parametrize("dtype", sorted(FLOATS))
def test_arrays_become_floats_where_asked(source: str, dtype: str) -> None:
    array = np.ones(2, dtype=numpy_dtype(source))
    tensor = TensorData(data=array, dtype=dtype, shape=[2])
    assert tensor.data.dtype == numpy_dtype(dtype)
    assert tensor.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("dtype", ["int64", "float32", "bool", "bfloat16"])
def test_no_values_are_values_of_any_dtype(dtype: str) -> None:
    assert TensorData(data=[], dtype=dtype, shape=[0]).data.dtype == numpy_dtype(dtype)
    nested: list[list[int]] = [[], []]
    assert TensorData(data=nested, dtype=dtype, shape=[2, 0]).shape == [2, 0]
