"""TensorData: a named-dtype array that travels as a flat list, and holds a NumPy array."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

import numpy as np
from pydantic import Field, SerializationInfo, ValidationInfo, field_serializer, model_validator

from loops_core.types.base import WireModel
from loops_core.types.frames import Frames

if TYPE_CHECKING:
    import jax
    import torch

DType = Literal[
    "float32", "int64", "float16", "bfloat16", "float64", "int32", "int8", "uint8", "bool"
]
"""The dtypes a tensor can have; `float32` and `int64` are what servers expect in loss inputs."""

_FLOATS = ("float32", "float16", "bfloat16", "float64")


class TensorData(WireModel):
    """An array with its dtype and shape; `data` is flat and row-major, null means NaN.

    Attributes:
        data: the values, a flat NumPy array [prod(shape)] of `dtype`. Given as a (nested) list, a
            NumPy, JAX or torch array; an array of the right dtype is held without a copy.
        dtype: name of the element type; taken from `data` when that is an array.
        shape: the dimensions; taken from `data` when that is an array.

    Raises:
        pydantic.ValidationError: (a ValueError) an unknown dtype, a shape whose product is not the
            number of values, an integer out of range, a fraction or null among integers.

    >>> TensorData(data=[1.5, None], dtype="float32", shape=[2]).tolist()
    [1.5, nan]
    """

    data: np.ndarray[Any, np.dtype[Any]]
    dtype: DType
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field()]

    if TYPE_CHECKING:

        def __init__(
            self, *, data: object, dtype: str | None = None, shape: list[int] | None = None
        ) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _read(cls, fields: object, info: ValidationInfo) -> object:
        if not isinstance(fields, dict):
            return fields
        given: dict[str, object] = dict(fields)  # type: ignore[arg-type]  # keys are field names
        if "data" not in given:
            return given
        data = given["data"]
        if isinstance(data, dict):
            data = _open_frame(data, given, info)
        array = _to_array(data)
        is_list = isinstance(data, list | tuple)
        dtype = given.get("dtype", None if is_list else _dtype_name(array))
        shape = given.get("shape", None if is_list else list(array.shape))
        if dtype is None or shape is None:
            missing = "dtype" if dtype is None else "shape"
            raise ValueError(f"{missing} is missing: a list needs dtype= and shape=, or use from_list")
        given["dtype"], given["shape"] = dtype, _check_shape(shape, array)
        given["data"] = _cast(array, dtype)
        return given

    @field_serializer("data")
    def _write(self, data: np.ndarray[Any, Any], info: SerializationInfo) -> object:
        if isinstance(info.context, Frames):
            return {"frame": info.context.add(data)}
        return _json_list(data, self.dtype) if info.mode == "json" else data

    @classmethod
    def from_numpy(cls, array: np.ndarray[Any, Any]) -> Self:
        """Return the array as a tensor, without a copy where it is contiguous."""
        return cls(data=array)

    @classmethod
    def from_torch(cls, tensor: torch.Tensor) -> Self:
        """Return the torch tensor (any device, detached) as a tensor, without a copy on CPU."""
        return cls(data=tensor)

    @classmethod
    def from_jax(cls, array: jax.Array) -> Self:
        """Return the JAX array (any device) as a tensor."""
        return cls(data=np.asarray(array))

    @classmethod
    def from_list(cls, data: list[Any], dtype: str = "float32") -> Self:
        """Return a (nested, rectangular) list as a tensor of `dtype`; the shape is the nesting."""
        return cls(data=data, dtype=dtype, shape=list(_to_array(data).shape))

    def to_numpy(self) -> np.ndarray[Any, Any]:
        """Return the values as a NumPy array of `shape`: a view, not a copy."""
        return self.data.reshape(self.shape)

    def to_torch(self) -> torch.Tensor:
        """Return the values as a torch tensor of `shape`, which shares no memory with this one."""
        import torch

        if self.dtype == "bfloat16":
            return torch.from_numpy(self.to_numpy().view(np.int16).copy()).view(torch.bfloat16)
        return torch.from_numpy(self.to_numpy().copy())

    def to_jax(self) -> jax.Array:
        """Return the values as a JAX array of `shape`.

        64-bit values become 32-bit ones where JAX runs without `jax_enable_x64`, as in any
        `jax.numpy.asarray`.
        """
        import jax.numpy as jnp

        return jnp.asarray(self.to_numpy())

    def tolist(self) -> list[Any]:
        """Return the flat values as Python numbers; NaN stays NaN."""
        return self.data.tolist()

    def __eq__(self, other: object) -> bool:
        """Compare dtype, shape and values; NaN equals NaN."""
        if not isinstance(other, TensorData):
            return NotImplemented
        same = self.dtype == other.dtype and self.shape == other.shape
        return same and np.array_equal(self.data, other.data, equal_nan=self.dtype in _FLOATS)

    __hash__ = None  # type: ignore[assignment]  # mutable, like the arrays it holds


def _numpy_dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def _dtype_name(array: np.ndarray[Any, Any]) -> str:
    return array.dtype.name


def _to_array(data: object) -> np.ndarray[Any, Any]:
    """Return any accepted form of values as an array; null becomes NaN."""
    if type(data).__module__.partition(".")[0] == "torch":
        return _from_torch(data)  # type: ignore[arg-type]  # known by its module, torch is not imported here
    if not isinstance(data, list | tuple):
        if not hasattr(data, "__array__"):
            raise ValueError(f"data must be a list or an array, not {type(data).__name__}")
        return np.asarray(data)
    try:
        array = np.asarray(data)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"data must be a flat or rectangular list of numbers: {error}") from error
    if array.dtype == object:
        array = _with_nan(data)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"data must hold numbers, not {array.dtype.name}")
    return array


def _with_nan(data: list[Any] | tuple[Any, ...]) -> np.ndarray[Any, Any]:
    array = np.asarray(data, dtype=object)
    allowed = [v is None or (isinstance(v, int | float) and math.isfinite(v)) for v in array.ravel()]
    if not all(allowed):
        position = allowed.index(False)
        raise ValueError(f"data[{position}] must be a number or null, not {array.ravel()[position]!r}")
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"data must be a flat or rectangular list of numbers: {error}") from error


def _from_torch(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        import torch

        return tensor.contiguous().view(torch.int16).numpy().view(_numpy_dtype("bfloat16"))
    return tensor.numpy()


def _check_shape(shape: object, array: np.ndarray[Any, Any]) -> list[int]:
    if not isinstance(shape, list | tuple) or not all(
        isinstance(n, int | np.integer) and n >= 0 for n in shape
    ):
        raise ValueError(f"shape must be a list of sizes >= 0, not {shape!r}")
    dims = [int(n) for n in shape]
    if math.prod(dims) != array.size:
        raise ValueError(
            f"shape {dims} holds {math.prod(dims)} values, but data has {array.size}"
        )
    if array.ndim > 1 and list(array.shape) != dims:
        raise ValueError(f"shape {dims} is not the nesting of data, {list(array.shape)}")
    return dims


def _cast(array: np.ndarray[Any, Any], dtype: object) -> np.ndarray[Any, Any]:
    """Return the flat values as `dtype`, refusing what that would change."""
    if dtype not in get_args(DType):
        raise ValueError(f"dtype must be one of {', '.join(get_args(DType))}, not {dtype!r}")
    name = str(dtype)
    target = _numpy_dtype(name)
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype == target:
        return flat
    if flat.size == 0:
        return flat.astype(target)
    if name in _FLOATS:
        return flat.astype(target)
    if flat.dtype.kind not in "biu":
        raise ValueError(f"data of dtype {name} must hold integers, not {flat.dtype.name} (or null)")
    low, high = (0, 1) if name == "bool" else (np.iinfo(target).min, np.iinfo(target).max)
    if int(flat.min()) < low or int(flat.max()) > high:
        bad = flat.min() if int(flat.min()) < low else flat.max()
        raise ValueError(f"data holds {bad}, outside the range of {name}, {low} to {high}")
    return flat.astype(target)


def _open_frame(
    data: dict[Any, Any], fields: dict[str, object], info: ValidationInfo
) -> np.ndarray[Any, Any]:
    if not isinstance(info.context, Frames) or not isinstance(data.get("frame"), int):
        raise ValueError("data must be a list or an array, not an object")
    dtype = fields.get("dtype")
    if dtype not in get_args(DType):
        raise ValueError(f"dtype must be one of {', '.join(get_args(DType))}, not {dtype!r}")
    return info.context.read(data["frame"], _numpy_dtype(str(dtype)))


def _json_list(data: np.ndarray[Any, Any], dtype: str) -> list[Any]:
    values: list[Any] = data.tolist()
    if dtype not in _FLOATS or bool(np.isfinite(data).all()):
        return values
    return [v if math.isfinite(v) else None for v in values]
