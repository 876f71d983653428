"""The connection: HTTP/1.1 as uvicorn reads it, within bounds of size and time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, cast, final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from loops_core.errors import BusyError, LoopsError, UsageError
from loops_transport_http.server.features import features_of
from loops_transport_http.server.settings import ServerSettings
from loops_transport_http.wire import names
from loops_transport_http.wire.errors import write_error

_REASONS: Final[Mapping[int, bytes]] = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
}


@final
class BoundedProtocol(HttpToolsProtocol):
    """Refuses headers that are too large or too slow, and drops who does not read its answer.

    A client that has not sent its headers, or that reads its answer slower than
    `ServerSettings.least_bytes_per_s`, costs a timer; no task waits for it, and no thread.
    """

    def __init__(self, settings: ServerSettings, features: str, **uvicorn: Any) -> None:
        """Take the bounds, what every answer advertises, and what uvicorn hands to a protocol."""
        super().__init__(**uvicorn)
        self._settings = settings
        self._features = features
        self._head_bytes = 0
        self._in_head = True
        self._has_begun = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._rest_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the first request its time."""
        super().connection_made(cast("asyncio.Transport", transport))
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timers."""
        _cancel(self._head_timer)
        _cancel(self._write_timer)
        _cancel(self._rest_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless the headers are too large already."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self._settings.max_header_bytes:
            self._refuse(431, self._too_large())

    def on_message_begin(self) -> None:
        """Give the next request its time."""
        super().on_message_begin()
        self._has_begun = True
        if not self._in_head:  # those of a connection's first request are counted already
            self._head_bytes, self._in_head = 0, True
        self._start_head_timer()

    def on_headers_complete(self) -> None:
        """Start the request, if its headers are within the bound."""
        _cancel(self._head_timer)
        self._in_head = False
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self._settings.max_header_bytes:
            self._refuse(431, self._too_large())
            raise httptools.HttpParserError("the headers are too large")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Let the connection be used again."""
        _cancel(self._rest_timer)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Give a client that was answered early its time to send the rest, which is dropped."""
        super().on_response_complete()
        if self.cycle.more_body and not self.transport.is_closing():
            wait_s = self._settings.body_timeout_s
            self._rest_timer = self.loop.call_later(wait_s, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; uvicorn calls this."""
        if not self.transport.is_closing():
            self._refuse(400, UsageError(msg, hint="expected an HTTP/1.1 request"))

    def pause_writing(self) -> None:
        """Start watching a client that does not read as fast as it is answered."""
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        """Stop watching: the client has caught up."""
        _cancel(self._write_timer)
        super().resume_writing()

    def _start_head_timer(self) -> None:
        _cancel(self._head_timer)
        self._head_timer = self.loop.call_later(self._settings.header_timeout_s, self._late)

    def _late(self) -> None:
        if self.transport.is_closing():
            return
        if not self._has_begun:
            self.transport.close()
            return
        waited_s = self._settings.header_timeout_s
        self._refuse(408, BusyError(f"the headers were not complete after {waited_s:g} s"))

    def _watch_writing(self) -> None:
        _cancel(self._write_timer)
        self._write_timer = self.loop.call_later(
            self._settings.write_timeout_s,
            self._drop_if_slow,
            self.transport.get_write_buffer_size(),
        )

    def _drop_if_slow(self, size_before: int) -> None:
        read = size_before - self.transport.get_write_buffer_size()
        if read < self._settings.write_timeout_s * self._settings.least_bytes_per_s:
            self.transport.abort()
        else:
            self._watch_writing()

    def _too_large(self) -> UsageError:
        return UsageError(
            f"the headers have more than {self._settings.max_header_bytes} bytes", field="headers"
        )

    def _refuse(self, status: int, error: LoopsError) -> None:
        """Answer in the one shape of errors, and close."""
        if self.transport.is_closing():
            return
        _, headers, content = write_error(error)
        fields = {
            **headers,
            names.FEATURES: self._features,
            "Content-Length": str(len(content)),
            "Connection": "close",
        }
        lines = [f"HTTP/1.1 {status} ".encode() + _REASONS[status]]
        lines += [f"{name}: {value}".encode() for name, value in fields.items()]
        self.transport.write(b"\r\n".join([*lines, b"", content]))
        self.transport.close()


def protocol_of(settings: ServerSettings) -> type[asyncio.Protocol]:
    """Return the protocol of a server's connections, as uvicorn wants it."""
    features = features_of(settings).to_header()
    return cast("type[asyncio.Protocol]", partial(BoundedProtocol, settings, features))


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
