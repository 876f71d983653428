"""One value as bytes: a JSON text whose tensors and token ids lie behind it as raw buffers.

Layout: the magic `LOOPSF2` and a newline; the length of the header as 8 little-endian bytes; the
header, a JSON object with `body` and `frames`, which gives `[dtype, size]` of each buffer, its size
in bytes; zero bytes up to a multiple of 8; the little-endian buffers in order, each followed by
zero bytes up to a multiple of 8; nothing behind. The same value gives the same bytes.

A frame has a dtype of its own: int64 values that all fit int32 may lie there as int32, which halves
them, and come back as int64.
"""

from __future__ import annotations

import struct
import sys
from typing import Any, Final, TypeVar, final

import numpy as np
from pydantic import BaseModel, ConfigDict, StrictInt, TypeAdapter, ValidationError

from loops_core.types.arrays import AnyArray, dtype_name, numpy_dtype

MAGIC: Final = b"LOOPSF2\n"
_ALIGN: Final = 8
_START: Final = len(MAGIC) + 8
_NARROW_FROM: Final = 64
"""Shorter int64 arrays stay as they are: to look at them costs more than they would lose."""

_INT64: Final = np.dtype(np.int64)
_INT32: Final = np.iinfo(np.int32)
_INTEGERS: Final = (("int32", "i"), ("int64", "q"))
"""The dtypes of a list of integers with their format letters, the narrowest first."""

ModelT = TypeVar("ModelT", bound=BaseModel)
Span = tuple[str, StrictInt]
"""Dtype and bytes of a frame."""


@final
class FrameWriter:
    """The buffers of one value, while it is written."""

    __slots__ = ("buffers", "spans")

    def __init__(self) -> None:
        """Start empty."""
        self.spans: list[tuple[str, int]] = []
        self.buffers: list[bytes | memoryview] = []

    def add(self, array: AnyArray) -> int:
        """Keep one flat array and return its number."""
        if array.dtype == _INT64 and array.size >= _NARROW_FROM and _fits_int32(array):
            array = array.astype(np.int32)
        name = dtype_name(array.dtype)
        if sys.byteorder != "little" or not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("<"))
        return self._add(name, np.ascontiguousarray(array).view(np.uint8).data)

    def add_integers(self, values: list[int]) -> int | None:
        """Keep a list and return its number; None = not kept, int64 cannot hold one of them."""
        for name, letter in _INTEGERS:
            try:
                packed = struct.pack(f"<{len(values)}{letter}", *values)
            except struct.error:
                continue
            return self._add(name, packed)
        return None

    def _add(self, dtype: str, raw: bytes | memoryview) -> int:
        self.spans.append((dtype, len(raw)))
        self.buffers.append(raw)
        return len(self.spans) - 1


@final
class FrameReader:
    """The buffers of one value, while it is read."""

    __slots__ = ("_arrays",)

    def __init__(self, view: memoryview, spans: list[Span]) -> None:
        """Read from the bytes behind a header.

        Raises:
            ValueError: the spans do not fill the bytes exactly, or one is not of its dtype.
        """
        position = 0
        self._arrays: list[AnyArray] = []
        for number, (name, size) in enumerate(spans):
            end = position + size
            if size < 0 or end > len(view):
                raise ValueError(f"frame {number} of {size} bytes does not lie in a packed value")
            self._arrays.append(_to_array(number, numpy_dtype(name), view[position:end]))
            position = end + -size % _ALIGN
        if position != len(view):
            raise ValueError(
                f"the frames of a packed value take {position} bytes, it has {len(view)}"
            )

    def read(self, number: object, dtype: object) -> AnyArray:
        """Return buffer `number` as a flat read-only array of `dtype`, without a copy if it is one.

        Raises:
            ValueError: there is no such buffer, or it holds values of another dtype.
        """
        if type(number) is not int or not 0 <= number < len(self._arrays):
            raise ValueError(f"frame {number!r} does not exist: there are {len(self._arrays)}")
        array = self._arrays[number]
        if array.dtype == numpy_dtype(dtype):
            return array
        if array.dtype != np.int32 or dtype != "int64":
            raise ValueError(f"frame {number} holds {dtype_name(array.dtype)}, not {dtype}")
        return array.astype(np.int64)

    def read_integers(self, number: object) -> list[int]:
        """Return a buffer of int32 or int64 as the list that it was.

        Raises:
            ValueError: there is no such buffer, or it holds other values.
        """
        values: list[int] = self.read(number, "int64").tolist()
        return values


class _Header(BaseModel):
    body: dict[str, Any]
    frames: list[Span]


_HEADER_TEXT: Final = TypeAdapter(dict[str, Any], config=ConfigDict(ser_json_inf_nan="constants"))


def pack(value: BaseModel, *, without: frozenset[str] = frozenset()) -> bytes:
    """Return the value as bytes; `unpack` gives an equal one back.

    Args:
        value: what to pack.
        without: names of its fields that are left out, and come back as their defaults.

    Raises:
        ValueError: a text in it is no Unicode, such as a file name that was not decoded.
    """
    frames = FrameWriter()
    exclude = set(without) or None
    body = value.model_dump(mode="json", by_alias=True, context=frames, exclude=exclude)
    header = _HEADER_TEXT.dump_json({"body": body, "frames": frames.spans})
    parts = [MAGIC, len(header).to_bytes(8, "little"), header, bytes(-len(header) % _ALIGN)]
    for raw in frames.buffers:
        parts += [raw, bytes(-len(raw) % _ALIGN)]
    return b"".join(parts)


def unpack(data: bytes, value_type: type[ModelT]) -> ModelT:
    """Return the value that `pack` wrote; its tensors are read-only, and views where they can be.

    Raises:
        ValueError: the bytes are not a packed value, are cut short, or are not of this type.
    """
    if data[: len(MAGIC)] != MAGIC or len(data) < _START:
        raise ValueError("not a packed value: the magic bytes are missing")
    size = int.from_bytes(data[len(MAGIC) : _START], "little")
    end = _START + size + -size % _ALIGN
    if end > len(data):
        raise ValueError(f"a packed value is cut short: a header of {size} bytes in {len(data)}")
    try:
        header = _Header.model_validate_json(data[_START : _START + size])
    except ValidationError as error:
        raise ValueError(f"a packed value has a damaged header: {error}") from error
    frames = FrameReader(memoryview(data)[end:], header.frames)
    return value_type.model_validate(header.body, context=frames)


def _fits_int32(array: AnyArray) -> bool:
    return bool(array.min() >= _INT32.min and array.max() <= _INT32.max)


def _to_array(number: int, dtype: np.dtype[Any], raw: memoryview) -> AnyArray:
    if len(raw) % dtype.itemsize:
        raise ValueError(f"frame {number} of {len(raw)} bytes holds no {dtype_name(dtype)} values")
    if dtype.kind == "b" and len(raw) and np.frombuffer(raw, dtype=np.uint8).max() > 1:
        raise ValueError(f"frame {number} holds other bytes than the two of a bool")
    return np.frombuffer(raw, dtype=dtype.newbyteorder("<"))
