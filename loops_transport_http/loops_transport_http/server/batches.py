"""Reading a large JSON batch one datum at a time, so that other threads get their turn between.

One pass over 30 MB of JSON holds the interpreter for a third of a second, and nobody is answered
meanwhile. The batch is cut at the bounds of its datums first, which is quick where they are long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, TypeVar, cast

from pydantic import ValidationError

from loops_core.types.base import WireModel
from loops_core.types.datum import Datum
from loops_core.types.operation import ForwardBody

ModelT = TypeVar("ModelT", bound=WireModel)

Span = tuple[int, int]

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)
_OPENING: Final = (b"{", b"[")
_CLOSING: Final = (b"}", b"]")
_OPENS_DATA: Final = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*\[")
_COMMA: Final = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*")
_BLANK: Final = re.compile(rb"[ \t\r\n]*")
_MOST_TOKENS: Final = 500_000
"""With more of them than this, cutting would take longer than it is worth."""


def read_batch(content: bytes, body_type: type[ModelT]) -> ModelT | None:
    """Return what the JSON text means, read in pieces; None where it must be read whole.

    The text that cannot be cut, or is wrong, is left to the one reader whose errors are known.
    """
    if not issubclass(body_type, ForwardBody):
        return None
    found = _find_datums(content)
    if found is None:
        return None
    (start, end), spans = found
    try:
        rest = body_type.model_validate_json(content[:start] + content[end:])
        data = [Datum.model_validate_json(content[low:high]) for low, high in spans]
    except ValidationError:
        return None
    return cast("ModelT", rest.model_copy(update={"data": data}))


def _find_datums(content: bytes) -> tuple[Span, list[Span]] | None:
    """Return the inside of the array `data`, and its objects in it; None where it is not so."""
    tokens = _tokens(content)
    array: Span | None = None
    spans: list[Span] = []
    depth = 0
    for text, _, end in tokens:
        if text in _OPENING:
            depth += 1
        elif text in _CLOSING:
            depth -= 1
        elif depth == 1 and text == b'"data"':
            opened = _OPENS_DATA.match(content, end)
            if opened is None:
                continue  # a value that reads so
            spans = _objects(tokens)
            if array is not None or not spans:
                return None
            array = (opened.end(), spans.pop()[0])
            if not _is_filled(content, array, spans):
                return None
    return None if array is None or depth != 0 else (array, spans)


def _tokens(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    for number, found in enumerate(_TOKEN.finditer(content)):
        if number > _MOST_TOKENS:
            return
        start, end = found.span()
        is_short = end - start <= len(b'"data"')
        yield found[0] if is_short else b'"', start, end


def _objects(tokens: Iterator[tuple[bytes, int, int]]) -> list[Span]:
    """Return the spans of an array's objects and, last, that of its closing bracket."""
    spans: list[Span] = []
    depth, low = 0, 0
    for text, start, end in tokens:
        if text in _OPENING:
            depth += 1
            if depth == 2:  # 1 is the array itself
                low = start
        elif text in _CLOSING:
            depth -= 1
            if depth == 1:
                spans.append((low, end))
            elif depth == 0:
                return [*spans, (start, end)]
    return []


def _is_filled(content: bytes, array: Span, spans: list[Span]) -> bool:
    """Tell whether there is nothing in the array but the objects, with commas between."""
    position = array[0]
    for number, (low, high) in enumerate(spans):
        gap = _COMMA if number else _BLANK
        if gap.fullmatch(content, position, low) is None:
            return False
        position = high
    return _BLANK.fullmatch(content, position, array[1]) is not None
