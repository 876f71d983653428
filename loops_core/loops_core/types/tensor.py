"""TensorData: a named-dtype array that travels as a flat list, and holds a NumPy array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from pydantic import SerializationInfo, ValidationInfo, field_serializer, model_validator

from loops_core.types.arrays import (
    FLOATS,
    AnyArray,
    DType,
    check_shape,
    convert,
    dtype_name,
    json_list,
    numpy_dtype,
    to_array,
)
from loops_core.types.base import WireModel
from loops_core.types.frames import FrameReader, FrameWriter

if TYPE_CHECKING:
    import jax
    import torch


class TensorData(WireModel):
    """An array with its dtype and shape; `data` is flat and row-major, null means NaN.

    Attributes:
        data: the values, a flat NumPy array [prod(shape)] of `dtype`. Given as a (nested) list, a
            NumPy, JAX or torch array; a contiguous array of the right dtype is held without a copy.
        dtype: name of the element type; taken from `data` when that is an array.
        shape: the dimensions; taken from `data` when that is an array.

    Raises:
        pydantic.ValidationError: (a ValueError) an unknown dtype, a shape whose product is not the
            number of values, a number out of range, a fraction or null among integers.

    >>> TensorData(data=[1.5, None], dtype="float32", shape=[2]).tolist()
    [1.5, nan]
    """

    data: AnyArray
    dtype: DType
    shape: list[int]

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
        data, dtype, shape = given["data"], given.get("dtype"), given.get("shape")
        if isinstance(data, dict):
            array = _open_frame(cast("dict[str, object]", data), dtype, info)
            given["data"], given["shape"] = array, check_shape(shape, array)
            return given
        array = _from_torch(data) if _is_torch(data) else to_array(data)
        is_list = isinstance(data, list | tuple)
        if not is_list:
            dtype = dtype_name(array.dtype) if dtype is None else dtype
            shape = list(array.shape) if shape is None else shape
        if dtype is None or shape is None:
            missing = "dtype" if dtype is None else "shape"
            raise ValueError(
                f"{missing} is missing: a list needs dtype= and shape=, or use from_list"
            )
        given["data"] = convert(array, dtype, whole_floats=is_list)
        given["dtype"], given["shape"] = dtype, check_shape(shape, array)
        return given

    @field_serializer("data")
    def _write(self, data: AnyArray, info: SerializationInfo) -> object:
        if isinstance(info.context, FrameWriter):
            return {"frame": info.context.add(data)}
        return json_list(data) if info.mode == "json" else data

    @classmethod
    def from_numpy(cls, array: AnyArray) -> Self:
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
        return cls(data=data, dtype=dtype, shape=list(to_array(data).shape))

    def to_numpy(self) -> AnyArray:
        """Return the values as a NumPy array of `shape`: a view, not a copy."""
        return self.data.reshape(self.shape)

    def to_torch(self) -> torch.Tensor:
        """Return the values as a torch tensor of `shape`, which shares no memory with this one."""
        import torch

        if self.dtype == "bfloat16":
            return torch.as_tensor(self.to_numpy().view(np.int16).copy()).view(torch.bfloat16)
        return torch.as_tensor(self.to_numpy().copy())

    def to_jax(self) -> jax.Array:
        """Return the values as a JAX array of `shape`.

        Where JAX runs without `jax_enable_x64`, float64 values are rounded to float32, and int64
        values become int32.

        Raises:
            ValueError: an int64 value does not fit int32, and JAX has nothing wider.
        """
        import jax.numpy as jnp

        array: jax.Array = jnp.array(self.to_numpy())  # pyright: ignore[reportUnknownMemberType]
        if array.dtype.name == "int32":
            convert(self.data, "int32", whole_floats=False)
        return array

    def tolist(self) -> list[Any]:
        """Return the flat values as Python numbers; NaN stays NaN."""
        return self.data.tolist()

    def __eq__(self, other: object) -> bool:
        """Compare dtype, shape and values; NaN equals NaN."""
        if not isinstance(other, TensorData):
            return NotImplemented
        same = self.dtype == other.dtype and self.shape == other.shape
        return same and np.array_equal(self.data, other.data, equal_nan=self.dtype in FLOATS)

    __hash__ = None  # mutable, like the arrays it holds


def _is_torch(data: object) -> bool:
    """Tell whether this is a torch tensor, without importing torch."""
    return any(cls.__module__ == "torch" and cls.__name__ == "Tensor" for cls in type(data).__mro__)


def _from_torch(data: object) -> AnyArray:
    import torch

    assert isinstance(data, torch.Tensor)
    tensor = data.detach().cpu()
    try:
        if tensor.dtype == torch.bfloat16:
            return tensor.contiguous().view(torch.int16).numpy().view(numpy_dtype("bfloat16"))
        return tensor.numpy()
    except TypeError as error:  # a sparse layout, or a dtype that NumPy lacks
        raise ValueError(f"data must be a dense tensor of numbers: {error}") from error


def _open_frame(data: dict[str, object], dtype: object, info: ValidationInfo) -> AnyArray:
    if "frame" not in data or not isinstance(info.context, FrameReader):
        raise ValueError("data must be a list or an array, not an object")
    return info.context.read(data["frame"], dtype)
