"""Just enough of HTTP/1.1 to see where a message begins and ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final, final

PIECE_BYTES: Final = 64 * 1024
"""A body passes in pieces of at most this many bytes."""

_END_OF_HEAD: Final = b"\r\n\r\n"


@final
@dataclass(frozen=True, slots=True)
class Head:
    """The first line and the headers of a message.

    Attributes:
        raw: the bytes as they came, the empty line included.
        line: the first line.
        headers: by lower-case name; of repeated ones the last.
    """

    raw: bytes
    line: str
    headers: dict[str, str]

    @property
    def status(self) -> int:
        """Return the status of a response's head."""
        return int(self.line.split(" ")[1])


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Return the next message's head; None when the peer has ended before one."""
    try:
        raw = await reader.readuntil(_END_OF_HEAD)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    line, *rest = raw.decode("latin-1").split("\r\n")
    pairs = (field.partition(":") for field in rest if field)
    return Head(raw, line, {name.strip().lower(): value.strip() for name, _, value in pairs})


async def message(reader: asyncio.StreamReader, head: Head) -> AsyncGenerator[bytes]:
    """Yield the message's bytes as they come, its head first.

    Raises:
        EOFError: the body broke off.
    """
    yield head.raw
    if head.headers.get("transfer-encoding", "") == "chunked":
        size = -1
        while size != 0:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            yield line + await reader.readexactly(size + 2)
        return
    left = int(head.headers.get("content-length", "0"))
    while left > 0:
        piece = await reader.read(min(left, PIECE_BYTES))
        if not piece:
            raise EOFError
        left -= len(piece)
        yield piece
