"""One value as bytes: a JSON text whose tensors lie behind it as raw little-endian buffers.

Layout: the magic `LOOPSF1` and a newline; the length of the header as 8 little-endian bytes; the
header, a JSON object with `body` and `frames`, which gives `[start, size]` of each buffer in bytes
from the end of the header's padding; zero bytes up to a multiple of 8; the buffers in order, each
followed by zero bytes up to a multiple of 8; nothing behind. The same value gives the same bytes.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypeVar, final

import numpy as np
from pydantic import BaseModel, StrictInt, ValidationError

MAGIC: Final = b"LOOPSF1\n"
_ALIGN: Final = 8
_START: Final = len(MAGIC) + 8

ModelT = TypeVar("ModelT", bound=BaseModel)
Span = tuple[StrictInt, StrictInt]


@final
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
        """Return buffer `number` as a flat read-only array, without a copy.

        Raises:
            ValueError: there is no such buffer, or it does not hold values of this dtype.
        """
        if self._view is None or not 0 <= number < len(self._spans):
            raise ValueError(f"frame {number} does not exist: there are {len(self._spans)}")
        start, size = self._spans[number]
        if size % dtype.itemsize:
            raise ValueError(f"frame {number} of {size} bytes holds no {dtype.name} values")
        buffer = self._view[start : start + size]
        if dtype.kind == "b" and size and np.frombuffer(buffer, dtype=np.uint8).max() > 1:
            raise ValueError(f"frame {number} holds other bytes than the two of a bool")
        return np.frombuffer(buffer, dtype=dtype.newbyteorder("<"))


class _Header(BaseModel):
    body: dict[str, Any]
    frames: list[Span]


def pack(value: BaseModel) -> bytes:
    """Return the value as bytes; `unpack` gives an equal one back."""
    frames = Frames()
    body = value.model_dump(mode="json", by_alias=True, context=frames)
    header = json.dumps({"body": body, "frames": _spans(frames)}, separators=(",", ":")).encode()
    parts = [MAGIC, len(header).to_bytes(8, "little"), header, bytes(-len(header) % _ALIGN)]
    for array in frames.buffers:
        parts += [array.tobytes(), bytes(-array.nbytes % _ALIGN)]
    return b"".join(parts)


def unpack(data: bytes, value_type: type[ModelT]) -> ModelT:
    """Return the value that `pack` wrote; its tensors are read-only views of `data`.

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
    buffers = memoryview(data)[end:]
    _check_spans(header.frames, len(buffers))
    return value_type.model_validate(header.body, context=Frames(buffers, header.frames))


def _spans(frames: Frames) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    position = 0
    for array in frames.buffers:
        spans.append((position, array.nbytes))
        position += array.nbytes + -array.nbytes % _ALIGN
    return spans


def _check_spans(spans: list[tuple[int, int]], num_bytes: int) -> None:
    """Refuse spans that do not lie one behind the other and fill the buffers exactly."""
    position = 0
    for number, (start, size) in enumerate(spans):
        if start != position or size < 0:
            raise ValueError(
                f"frame {number} is [{start}, {size}], expected to start at {position}"
            )
        position += size + -size % _ALIGN
    if position != num_bytes:
        raise ValueError(f"the frames of a packed value take {position} bytes, it has {num_bytes}")
