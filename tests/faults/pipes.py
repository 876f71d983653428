"""Connections that can be reset, and messages that pass through them as a plan says."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import struct
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Final, Self, final

from tests.faults.plan import Way

_RESETS: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing the socket resets the connection."""


@final
class BrokenError(Exception):
    """A fault has ended the exchange, or one side has; `resets` tells how the other sees it."""

    def __init__(self, *, resets: bool) -> None:
        super().__init__()
        self.resets = resets


@final
class Pipe:
    """One connection.

    Attributes:
        reader: what comes from it.
        meter: is told of the bytes that are written to it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.meter: Callable[[int], None] = lambda _: None
        self._writer = writer
        writer.transport.set_write_buffer_limits(0)

    @classmethod
    async def open(cls, address: tuple[str, int]) -> Self:
        """Connect."""
        return cls(*await asyncio.open_connection(*address))

    async def write(self, data: bytes) -> None:
        """Return when all has left."""
        self.meter(len(data))
        self._writer.write(data)
        await self._writer.drain()

    def end(self, *, resets: bool) -> None:
        """Close the connection, or reset it."""
        sock: socket.socket = self._writer.get_extra_info("socket")
        if resets:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETS)
            self._writer.transport.abort()
        self._writer.close()

    async def ended(self) -> None:
        """Return when the connection has ended."""
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


@final
class Gate:
    """Where messages are held back until it is opened; it stays open.

    Attributes:
        reached: is set while, or after, something waits here.
    """

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._opened = asyncio.Event()

    def open(self) -> None:
        """Let everything go on; from the gate's event loop."""
        self._opened.set()

    async def wait(self) -> None:
        """Return when it is open."""
        self.reached.set()
        await self._opened.wait()


async def pass_on(pieces: AsyncGenerator[bytes], to: Pipe, way: Way, gate: Gate) -> None:
    """Write a message as the way says.

    Raises:
        BrokenError: as the way says.
        EOFError: the message broke off.
    """
    passed = 0
    async for piece in pieces:
        room = len(piece) if way.stop_at is None else way.stop_at - passed
        await _write(piece[:room], to, way.pause_s)
        passed += min(room, len(piece))
        if passed == way.stop_at:
            if way.then != "hold":
                raise BrokenError(resets=way.then == "reset")
            await gate.wait()
            way = dataclasses.replace(way, stop_at=None)
            await _write(piece[room:], to, way.pause_s)


async def _write(data: bytes, to: Pipe, pause_s: float | None) -> None:
    if pause_s is None:
        await to.write(data)
        return
    for at in range(len(data)):
        await to.write(data[at : at + 1])
        await asyncio.sleep(pause_s)
