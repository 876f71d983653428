"""What TensorData promises: any array in, the same values out, no copy, and null for NaN."""

from __future__ import annotations

import json
import math
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from pydantic import ValidationError

from loops_core.types.arrays import numpy_dtype
from loops_core.types.tensor import TensorData
from loops_mock.strategies import tensors

DTYPES = ("float32", "int64", "float16", "bfloat16", "float64", "int32", "int8", "uint8", "bool")
MILLION = 1_000_000


def test_what_users_write_works() -> None:
    tensor = TensorData(data=[5, 6, 7], dtype="int64", shape=[3])
    assert tensor.tolist() == [5, 6, 7]
    assert tensor.to_numpy().dtype == np.int64


def test_an_array_brings_its_dtype_and_shape() -> None:
    tensor = TensorData(data=np.zeros((2, 3), dtype=np.float32))
    assert (tensor.dtype, tensor.shape, tensor.data.shape) == ("float32", [2, 3], (6,))


@pytest.mark.parametrize("missing", ["dtype", "shape"])
def test_a_list_needs_dtype_and_shape(missing: str) -> None:
    fields = {"data": [1], "dtype": "int64", "shape": [1]}
    del fields[missing]
    with pytest.raises(ValidationError, match=f"{missing} is missing"):
        TensorData.model_validate(fields)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3)])
def test_every_dtype_and_shape_of_array_is_held_as_it_is(
    dtype: str, shape: tuple[int, ...]
) -> None:
    array = np.ones(shape, dtype=numpy_dtype(dtype))
    tensor = TensorData.from_numpy(array)
    assert (tensor.dtype, tensor.shape) == (dtype, list(shape))
    assert tensor.to_numpy().dtype == array.dtype
    assert tensor.to_numpy().shape == shape
    assert TensorData.model_validate_json(tensor.model_dump_json()) == tensor


@given(npst.arrays(np.int32, npst.array_shapes(max_dims=3, max_side=4)), st.data())
def test_strides_do_not_matter(array: NDArray[np.int32], data: st.DataObject) -> None:
    axes = data.draw(st.permutations(range(array.ndim)))
    view = array.transpose(axes)[::-1]
    assert TensorData.from_numpy(view).to_numpy().tolist() == view.tolist()


def test_bytes_in_foreign_order_are_put_in_order() -> None:
    tensor = TensorData.from_numpy(np.array([1, 2], dtype=">i8"))
    assert tensor.tolist() == [1, 2]
    assert tensor.data.dtype.isnative


def test_a_contiguous_array_of_the_dtype_is_not_copied() -> None:
    array = np.arange(6.0).reshape(2, 3)
    for tensor in (
        TensorData.from_numpy(array),
        TensorData(data=array, dtype="float64", shape=[2, 3]),
    ):
        assert np.shares_memory(tensor.data, array)
        assert np.shares_memory(tensor.to_numpy(), array)


def test_a_million_integers_cost_no_copy_and_no_list() -> None:
    array = np.arange(MILLION)
    tensor = TensorData(data=array, dtype="int64", shape=[MILLION])  # imports done before measuring
    tracemalloc.start()
    tensor = TensorData(data=array, dtype="int64", shape=[MILLION])
    view = tensor.to_numpy()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.shares_memory(view, array)
    # A copy would take 8 MB and a list of integers 36; a model and two views take a few kilobytes.
    assert peak_bytes < 50_000


def test_to_numpy_is_a_view() -> None:
    tensor = TensorData(data=[1, 2], dtype="int64", shape=[2, 1])
    tensor.to_numpy()[0, 0] = 9
    assert tensor.tolist() == [9, 2]


def test_null_is_nan_for_floats() -> None:
    tensor = TensorData(data=[None, 1.5, None], dtype="float32", shape=[3])
    assert np.isnan(tensor.data).tolist() == [True, False, True]


@given(st.lists(st.floats() | st.none() | st.integers(-5, 5), max_size=6))
def test_null_nan_and_infinities_may_stand_side_by_side(values: list[float | None]) -> None:
    tensor = TensorData(data=values, dtype="float64", shape=[len(values)])
    expected = [math.nan if value is None else float(value) for value in values]
    np.testing.assert_array_equal(tensor.data, np.array(expected))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_nan_and_infinities_are_written_as_null(dtype: str) -> None:
    tensor = TensorData(data=[math.nan, math.inf, -math.inf, 0.5], dtype=dtype, shape=[4])
    assert json.loads(tensor.model_dump_json())["data"] == [None, None, None, 0.5]
    assert json.loads(json.dumps(tensor.model_dump(mode="json")))["data"] == [None, None, None, 0.5]


def test_literal_nan_and_infinity_are_read() -> None:
    text = '{"data": [NaN, Infinity, -Infinity, null], "dtype": "float32", "shape": [4]}'
    tensor = TensorData.model_validate_json(text)
    np.testing.assert_array_equal(tensor.data, [math.nan, math.inf, -math.inf, math.nan])


@given(tensors(infinities=True))
def test_equal_is_equal_with_nan_and_through_pickle(tensor: TensorData) -> None:
    same = TensorData(data=tensor.to_numpy().copy())
    assert tensor == same
    assert pickle.loads(pickle.dumps(tensor)) == tensor


def test_what_differs_is_not_equal() -> None:
    tensor = TensorData(data=[1, 2], dtype="int64", shape=[2])
    assert tensor != TensorData(data=[1, 3], dtype="int64", shape=[2])
    assert tensor != TensorData(data=[1, 2], dtype="int32", shape=[2])
    assert tensor != TensorData(data=[1, 2], dtype="int64", shape=[2, 1])
    assert tensor != [1, 2]


@given(st.lists(st.lists(st.integers(-5, 5), min_size=2, max_size=2), min_size=1, max_size=3))
def test_from_list_takes_its_shape_from_the_nesting(rows: list[list[int]]) -> None:
    tensor = TensorData.from_list(rows)
    assert (tensor.dtype, tensor.shape) == ("float32", [len(rows), 2])
    assert tensor.to_numpy().tolist() == rows


def test_from_list_takes_a_dtype() -> None:
    assert TensorData.from_list([1, 2], "int64").dtype == "int64"


def test_a_nested_list_with_its_shape_is_read() -> None:
    tensor = TensorData(data=[[1, None], [3, 4]], dtype="float32", shape=[2, 2])
    np.testing.assert_array_equal(tensor.data, [1, math.nan, 3, 4])
