"""Sockets whose reads and writes keep to one bound of time for a whole exchange.

A socket's own time limit starts again with every byte that arrives, so a peer that trickles could
hold a call for ever. Here each read and write gets what is left until the deadline of the thread
that makes it.
"""

from __future__ import annotations

import math
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from typing import Any, Final, final

import httpcore

_PIECE: Final = 256 * 1024
"""How many bytes are handed to a socket at once, so that the time is looked at in between."""


_KEPT: Final = 32 * 1024
"""The most that a write keeps back until the connection is read from."""


class _Clock(threading.local):
    """The deadline of the exchange that runs on this thread."""

    deadline: float = math.inf


_clock: Final = _Clock()


@contextmanager
def time_limit(timeout_s: float) -> Generator[None]:
    """Let everything that this thread reads and writes end within so many seconds."""
    _clock.deadline = time.monotonic() + timeout_s
    try:
        yield
    finally:
        _clock.deadline = math.inf


def _left_s(timeout_s: float | None, error: type[Exception]) -> float | None:
    """Return how long one step may take."""
    left_s = _clock.deadline - time.monotonic()
    if left_s <= 0:
        raise error("the time of the whole exchange is over")
    if math.isinf(left_s):
        return timeout_s
    return left_s if timeout_s is None else min(timeout_s, left_s)


@final
class TimedBackend(httpcore.NetworkBackend):
    """Opens connections that keep to the time limit of the thread that uses them."""

    def __init__(self, *, joins_writes: bool) -> None:
        """Open no connection yet.

        Args:
            joins_writes: whether a write may wait for the next one or for a read. It may not on
                connections that several requests use at once.
        """
        self._inner = httpcore.SyncBackend()
        self._most_kept = _KEPT if joins_writes else 0
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def abort(self) -> None:
        """End all connections at once: whoever reads or writes on one meets its end."""
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            with suppress(OSError):  # it is closed already
                each.shutdown(socket.SHUT_RDWR)

    def keep(self, stream: httpcore.NetworkStream) -> None:
        """Remember a connection for `abort`."""
        with self._lock:
            self._sockets.add(stream.get_extra_info("socket"))

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Return a connection to a host."""
        left_s = _left_s(timeout, httpcore.ConnectTimeout)
        stream = self._inner.connect_tcp(host, port, left_s, local_address, socket_options)
        return _TimedStream(stream, self, self._most_kept)


@final
class _TimedStream(httpcore.NetworkStream):
    """A connection on which the head of a request waits for its body, so that both go at once.

    Two writes would wake the peer twice.
    """

    def __init__(
        self, inner: httpcore.NetworkStream, backend: TimedBackend, most_kept: int
    ) -> None:
        backend.keep(inner)
        self._inner = inner
        self._backend = backend
        self._most_kept = most_kept
        self._kept = b""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._kept:
            with suppress(httpcore.WriteError):  # the peer may have answered before it went
                self._flush(timeout)
        return self._inner.read(max_bytes, _left_s(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if len(self._kept) + len(buffer) <= self._most_kept:
            self._kept += buffer
            return
        self._flush(timeout)
        for start in range(0, len(buffer), _PIECE):
            piece = buffer if len(buffer) <= _PIECE else buffer[start : start + _PIECE]
            self._inner.write(piece, _left_s(timeout, httpcore.WriteTimeout))

    def _flush(self, timeout: float | None) -> None:
        kept, self._kept = self._kept, b""
        if kept:
            self._inner.write(kept, _left_s(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        self._flush(timeout)
        left_s = _left_s(timeout, httpcore.ConnectTimeout)
        stream = self._inner.start_tls(ssl_context, server_hostname, left_s)
        return _TimedStream(stream, self._backend, self._most_kept)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
