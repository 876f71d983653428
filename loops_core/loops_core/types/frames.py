"""One value as bytes: a JSON text whose tensors lie behind it as raw little-endian buffers.

Layout: the magic, `LOOPSF1` and a line feed; the length of the header as 8 little-endian bytes; the
header, JSON with `body` and `frames` (`[start, size]` of each buffer, in bytes from the end of the
header's padding); zero bytes up to a multiple of 8; the buffers, each starting at a multiple of 8.
The same value gives the same bytes.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypeVar

import numpy as np
from pydantic import BaseModel

MAGIC: Final = b"LOOPSF1\n"
_ALIGN: Final = 8

ModelT = TypeVar("ModelT", bound=BaseModel)


class Frames:
    """The buffers of one value, while it is written or read."""

    __slots__ = ("_spans", "_view", "buffers")

    def __init__(
        self, view: memoryview | None = None, spans: list[tuple[int, int]] | None = None
    ) -> None:
        """Start empty for writing, or over a read view with the spans of its buffers."""
        self.buffers: list[np.ndarray[Any, Any]] = []
        self._view = view
        self._spans = spans or []

    def add(self, array: np.ndarray[Any, Any]) -> int:
        """Keep one flat array and return its number."""
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        self.buffers.append(np.ascontiguousarray(little))
        return len(self.buffers) - 1

    def read(self, number: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """Return buffer `number` as a flat read-only array, without a copy."""
        if self._view is None or not 0 <= number < len(self._spans):
            raise ValueError(f"frame {number} does not exist: there are {len(self._spans)}")
        start, size = self._spans[number]
        if start < 0 or size < 0 or start + size > len(self._view) or size % dtype.itemsize:
            raise ValueError(f"frame {number} of {size} bytes at {start} does not fit")
        return np.frombuffer(self._view[start : start + size], dtype=dtype)


def pack(value: BaseModel) -> bytes:
    """Return the value as bytes; `unpack` gives an equal one back."""
    frames = Frames()
    body = value.model_dump(mode="json", by_alias=True, context=frames)
    spans: list[tuple[int, int]] = []
    position = 0
    for array in frames.buffers:
        spans.append((position, array.nbytes))
        position += array.nbytes + (-array.nbytes) % _ALIGN
    header = json.dumps({"body": body, "frames": spans}, separators=(",", ":")).encode()
    parts = [MAGIC, len(header).to_bytes(8, "little"), header, bytes(-len(header) % _ALIGN)]
    for array in frames.buffers:
        parts += [array.tobytes(), bytes(-array.nbytes % _ALIGN)]
    return b"".join(parts)


def unpack(data: bytes, value_type: type[ModelT]) -> ModelT:
    """Return the value that `pack` wrote; its tensors are read-only views of `data`.

    Raises:
        ValueError: the bytes are not a packed value, are cut short, or are not of this type.
    """
    start = len(MAGIC) + 8
    if data[: len(MAGIC)] != MAGIC or len(data) < start:
        raise ValueError("not a packed value: the magic bytes are missing")
    size = int.from_bytes(data[len(MAGIC) : start], "little")
    if start + size > len(data):
        raise ValueError(f"a packed value is cut short: header of {size} bytes in {len(data)}")
    header = json.loads(data[start : start + size])
    buffers = memoryview(data)[start + size + (-size) % _ALIGN :]
    frames = Frames(buffers, [(int(a), int(b)) for a, b in header["frames"]])
    return value_type.model_validate(header["body"], context=frames)
