"""Values of the protocol as a JSON text with raw buffers beside it, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast, final

import numpy as np

from loops_core.types.base import WireModel
from loops_core.types.frames import FrameReader, FrameWriter
from loops_core.types.operation import OperationBody

ValueT = TypeVar("ValueT", bound=WireModel)
Buffer = bytes | memoryview

_LONG: Final = 12
"""Lists of numbers from this length on become buffers: shorter ones are easier to read as text."""

_TOKEN: Final = "token_id:"
_LISTS: Final = ("#ints", "#floats", "#token_ids")
"""How a list of numbers is written that became a buffer: `{"#ints": NUMBER}` and so on."""


@final
@dataclass(frozen=True, slots=True)
class Encoded:
    """A value as text and buffers.

    Attributes:
        text: JSON in which `{"frame": n}`, `{"#ints": n}`, `{"#floats": n}` and `{"#token_ids": n}`
            stand for buffers.
        spans: dtype and bytes of each buffer.
        buffers: the buffers, little-endian.
    """

    text: bytes
    spans: Sequence[tuple[str, int]] = ()
    buffers: Sequence[Buffer] = ()


def to_json(tree: object) -> bytes:
    """Return a JSON value as compact text; NaN and infinities stay what they are."""
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()


def from_json(text: bytes | memoryview | str) -> Any:
    """Return the JSON value of a text.

    Raises:
        ValueError: it is not one.
    """
    return json.loads(text if isinstance(text, str) else bytes(text))


def encode(value: WireModel, *, without: frozenset[str] = frozenset()) -> Encoded:
    """Return the value as text and buffers; `decode` gives an equal one back.

    Args:
        value: what to encode.
        without: names of its fields that are left out.
    """
    frames = FrameWriter()
    tree = value.model_dump(
        mode="json", by_alias=True, context=frames, exclude=set(without) or None
    )
    for name, field in type(value).model_fields.items():
        if field.exclude and name not in without:
            tree[name] = getattr(value, name)
    if not isinstance(value, OperationBody):  # whatever is long in those is a tensor or tokens
        tree = _pack_lists(tree, frames)
    return Encoded(to_json(tree), frames.spans, frames.buffers)


def decode(encoded: Encoded, value_type: type[ValueT]) -> ValueT:
    """Return the value that `encode` was given.

    Raises:
        ValueError: the text is not of this type, or names a buffer that is not there.
    """
    reader = _reader(encoded)
    tree = _open_lists(from_json(encoded.text), reader)
    return value_type.model_validate(tree, context=reader)


def to_tree(encoded: Encoded) -> Any:
    """Return the JSON value with NumPy arrays where it has buffers, to look at and to compare."""
    return _open_all(from_json(encoded.text), encoded)


def _reader(encoded: Encoded) -> FrameReader:
    parts: list[bytes] = []
    for raw in encoded.buffers:
        parts += [bytes(raw), bytes(-len(raw) % 8)]
    return FrameReader(memoryview(b"".join(parts)), list(encoded.spans))


def _pack_lists(node: Any, frames: FrameWriter) -> Any:
    """Return the JSON value with its long lists of numbers moved into buffers."""
    if isinstance(node, dict):
        fields = cast("dict[str, Any]", node)
        return {name: _pack_lists(each, frames) for name, each in fields.items()}
    if not isinstance(node, list):
        return node
    items = cast("list[Any]", node)
    if len(items) >= _LONG:
        kind = _kind_of(items)
        if kind is not None:
            number = _add_list(items, kind, frames)
            if number is not None:
                return {kind: number}
    return [_pack_lists(each, frames) for each in items]


def _kind_of(items: list[Any]) -> str | None:
    kinds = set(map(type, items))
    if kinds == {int}:
        return "#ints"
    if kinds == {float}:
        return "#floats"
    if kinds == {str} and all(
        each.startswith(_TOKEN) and each[len(_TOKEN) :].isascii() and each[len(_TOKEN) :].isdigit()
        for each in items
    ):
        return "#token_ids"
    return None


def _add_list(items: list[Any], kind: str, frames: FrameWriter) -> int | None:
    if kind == "#floats":
        wide = np.asarray(items, dtype=np.float64)
        with np.errstate(over="ignore"):
            narrow = wide.astype(np.float32)
        return frames.add(narrow if np.array_equal(narrow, wide, equal_nan=True) else wide)
    if kind == "#token_ids":
        numbers = [int(each[len(_TOKEN) :]) for each in items]
        if [f"{_TOKEN}{number}" for number in numbers] != items:
            return None
        items = numbers
    return frames.add_integers(items)


def _open_lists(node: Any, reader: FrameReader) -> Any:
    """Return the JSON value with its lists back in place; tensors keep their buffers' numbers."""
    if isinstance(node, list):
        return [_open_lists(each, reader) for each in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    fields = cast("dict[str, Any]", node)
    if len(fields) == 1:
        (kind, number), *_ = fields.items()
        if kind in _LISTS and type(number) is int:
            return _read_list(kind, number, reader)
    return {name: _open_lists(each, reader) for name, each in fields.items()}


def _read_list(kind: str, number: int, reader: FrameReader) -> list[Any]:
    if kind == "#floats":
        try:
            return reader.read(number, "float32").tolist()
        except ValueError:
            return reader.read(number, "float64").tolist()
    integers = reader.read_integers(number)
    return [f"{_TOKEN}{each}" for each in integers] if kind == "#token_ids" else integers


def _open_all(node: Any, encoded: Encoded) -> Any:
    if isinstance(node, list):
        return [_open_all(each, encoded) for each in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    fields = cast("dict[str, Any]", node)
    if len(fields) == 1:
        (kind, number), *_ = fields.items()
        if kind in ("frame", *_LISTS) and type(number) is int and number < len(encoded.spans):
            dtype, _size = encoded.spans[number]
            name = "uint16" if dtype == "bfloat16" else dtype
            return np.frombuffer(encoded.buffers[number], dtype=np.dtype(name).newbyteorder("<"))
    return {name: _open_all(each, encoded) for name, each in fields.items()}
