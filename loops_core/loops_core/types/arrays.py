"""Values in any accepted form as NumPy arrays; what a conversion would change is refused."""

from __future__ import annotations

import math
from typing import Any, Final, Literal, cast, get_args

import numpy as np

DType = Literal[
    "float32", "int64", "float16", "bfloat16", "float64", "int32", "int8", "uint8", "bool"
]
"""The dtypes a tensor can have; `float32` and `int64` are what servers expect in loss inputs."""

_DTYPES: Final = {name: np.dtype(name) for name in get_args(DType) if name != "bfloat16"}

_NAMES: Final = {dtype: name for name, dtype in _DTYPES.items()}
"""NumPy makes up a dtype's name at every call, which takes longer than a look at a small tensor."""

FLOATS: Final = frozenset({"float32", "float16", "bfloat16", "float64"})
"""The dtypes that have NaN, and so null."""

_EXACT: Final = 2.0**53
"""Up to here float64 holds every integer."""

AnyArray = np.ndarray[Any, np.dtype[Any]]


def numpy_dtype(name: object) -> np.dtype[Any]:
    """Return the NumPy dtype of a tensor dtype's name.

    Raises:
        ValueError: there is no such tensor dtype.
    """
    known = _DTYPES.get(name) if isinstance(name, str) else None
    if known is not None:
        return known
    if name != "bfloat16":
        raise ValueError(f"dtype must be one of {', '.join(get_args(DType))}, not {name!r}")
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return the name of any NumPy dtype, quickly where it is a tensor dtype."""
    return _NAMES.get(dtype) or dtype.name


def to_array(data: object) -> AnyArray:
    """Return a (nested) list of numbers and nulls, or any array, as a NumPy array; null is NaN.

    Raises:
        ValueError: the list is ragged, or something in it is no number.
    """
    if not isinstance(data, list | tuple):
        if not hasattr(data, "__array__"):
            raise ValueError(f"data must be a list or an array, not {type(data).__name__}")
        return _check_kind(np.asarray(data))
    try:
        array: AnyArray = np.asarray(cast("list[object]", data))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"data must be a flat or rectangular list of numbers: {error}") from error
    return _read_objects(array) if array.dtype == object else _check_kind(array)


def check_shape(shape: object, array: AnyArray) -> list[int]:
    """Return the shape as a list of sizes, once it fits the values.

    Raises:
        ValueError: a size is no integer >= 0, or the product is not the number of values, or the
            values are nested in another way.
    """
    sizes = cast("list[object]", shape) if isinstance(shape, list | tuple) else [None]
    if not all(map(_is_size, sizes)):
        raise ValueError(f"shape must be a list of integers >= 0, not {shape!r}")
    dims = [int(size) for size in cast("list[int]", sizes)]
    if math.prod(dims) != array.size:
        raise ValueError(f"shape {dims} holds {math.prod(dims)} values, but data has {array.size}")
    if array.ndim > 1 and list(array.shape) != dims:
        raise ValueError(f"shape {dims} is not the nesting of data, {list(array.shape)}")
    return dims


def convert(array: AnyArray, name: object, *, whole_floats: bool) -> AnyArray:
    """Return the values, flat, in a tensor dtype; without a copy where they have it already.

    Args:
        array: the values.
        name: a tensor dtype. Floats are rounded to a narrower float.
        whole_floats: whether 2.0 may become an integer: in a list it may, JSON has one kind of
            number; an array of floats has said what it is.

    Raises:
        ValueError: no such dtype, or a value that it cannot hold.
    """
    target = numpy_dtype(name)
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype == target:
        return flat
    if flat.size == 0:
        return flat.astype(target)
    if name in FLOATS:
        return _to_float(flat, target)
    if flat.dtype.kind not in "biuO":
        if not whole_floats or flat.dtype.kind != "f":
            raise ValueError(f"dtype {name} needs integers, but data is {flat.dtype.name}")
        inexact = ~((np.floor(flat) == flat) & (np.abs(flat) <= _EXACT))
        _refuse(flat, inexact, f"no integer, as {name} needs")
    low, high = (0, 1) if name == "bool" else (np.iinfo(target).min, np.iinfo(target).max)
    if int(flat.min()) < low or int(flat.max()) > high:
        bad = flat.argmin() if int(flat.min()) < low else flat.argmax()
        raise ValueError(f"data[{bad}] is {flat[bad]}, outside {name}, {low} to {high}")
    return flat.astype(target)


def json_list(data: AnyArray) -> list[Any]:
    """Return flat values as a list for JSON: null for NaN and infinities."""
    values: list[Any] = data.tolist()
    if data.dtype.kind in "biu" or bool(np.isfinite(data).all()):
        return values
    return [value if math.isfinite(value) else None for value in values]


def _is_size(size: object) -> bool:
    if isinstance(size, int):
        return size is not True and size >= 0
    return isinstance(size, np.integer) and bool(size >= 0)


def _check_kind(array: AnyArray) -> AnyArray:
    if array.dtype.kind not in "biuf" and dtype_name(array.dtype) != "bfloat16":
        raise ValueError(f"data must hold numbers, not {array.dtype.name}")
    return array


def _read_objects(array: AnyArray) -> AnyArray:
    """Return an array of numbers and None as float64; integers beyond 64 bits stay objects."""
    values = cast("list[object]", array.reshape(-1).tolist())
    if all(type(value) is int for value in values):
        return array
    for position, value in enumerate(values):
        if value is not None and not isinstance(value, int | float | np.integer | np.floating):
            raise ValueError(f"data[{position}] must be a number or null, not {value!r}")
    nan = np.array([math.nan if value is None else value for value in values], dtype=object)
    return _to_float(nan, np.dtype(np.float64)).reshape(array.shape)


def _to_float(flat: AnyArray, target: np.dtype[Any]) -> AnyArray:
    if flat.dtype == object:
        try:
            flat = flat.astype(np.float64)
        except OverflowError as error:
            raise ValueError(f"data holds an integer beyond the range of {target.name}") from error
    with np.errstate(over="ignore"):
        rounded = flat.astype(target)
    if not np.isfinite(rounded).all():
        _refuse(flat, np.isinf(rounded) & np.isfinite(flat), f"beyond the range of {target.name}")
    return rounded


def _refuse(flat: AnyArray, bad: AnyArray, problem: str) -> None:
    if bad.any():
        position = int(bad.argmax())
        value = "null or NaN" if np.isnan(flat[position]) else flat[position]
        raise ValueError(f"data[{position}] is {value}, {problem}")
