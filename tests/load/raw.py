"""A client of sockets, which does what no well-behaved client does: trickle, vanish, not read."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from typing import Final, Protocol, Self, final
from urllib.parse import urlsplit

from loops_transport_http.bench.measuring import percentile
from loops_transport_http.wire import names

IS_LONG: Final = os.environ.get("LOOPS_LONG_LOAD") == "1"
"""Whether the long forms are run: 2,000 futures, 5,000 operations."""

TIMEOUT_S: Final = 120.0


class Served(Protocol):
    """A running `loops serve`."""

    @property
    def url(self) -> str:
        """Return its address."""
        ...

    @property
    def api_key(self) -> str | None:
        """Return its key."""
        ...


@final
class Caller:
    """Sends requests on one connection, and measures nothing by itself."""

    def __init__(self, server: Served) -> None:
        """Open no connection yet."""
        address = urlsplit(server.url)
        self._connection = HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
        self._headers = {"Authorization": f"Bearer {server.api_key}"}

    def __enter__(self) -> Self:
        """Return the caller."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._connection.close()

    def health(self) -> None:
        """Ask for the server's health."""
        status, _, _ = self.call("GET", "/health")
        assert status == 200

    def submit(self, run_id: str, operation: str, body: object, *, key: str | None = None) -> str:
        """Return the id of an operation that was accepted."""
        path = f"/trainers/{run_id}/{operation}"
        status, _, content = self.call("POST", path, json.dumps(body).encode(), key=key)
        assert status == 202, content
        return json.loads(content)["operation_id"]

    def call(
        self, method: str, path: str, body: bytes | None = None, *, key: str | None = None
    ) -> tuple[int, HTTPResponse, bytes]:
        """Return status, response and content; a key makes the call repeatable."""
        keyed = {} if key is None else {names.IDEMPOTENCY_KEY: key}
        self._connection.request(method, path, body, {**self._headers, **keyed})
        response = self._connection.getresponse()
        return response.status, response, response.read()


@final
@dataclass(frozen=True, slots=True)
class Plug:
    """A bare connection."""

    sock: socket.socket

    @classmethod
    def open(cls, server: Served, *, receive_bytes: int | None = None) -> Plug:
        """Return a connection that has sent nothing; it may have a small buffer for answers."""
        address = urlsplit(server.url)
        sock = socket.socket()
        if receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.settimeout(TIMEOUT_S)
        sock.connect((address.hostname, address.port))
        return cls(sock)

    def __enter__(self) -> Self:
        """Return the connection."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.sock.close()

    def begin(
        self, server: Served, method: str, path: str, *, announced: int = 0, key: str | None = None
    ) -> None:
        """Send a request's head, which announces a body of so many bytes."""
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: tests",
            f"Authorization: Bearer {server.api_key}",
            f"Content-Length: {announced}",
        ]
        if key is not None:
            lines.append(f"{names.IDEMPOTENCY_KEY}: {key}")
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())

    def push(self, content: bytes) -> int:
        """Send as much as is taken without waiting; return how much that was."""
        self.sock.setblocking(False)
        try:
            return self.sock.send(content)
        except BlockingIOError:
            return 0
        finally:
            self.sock.settimeout(TIMEOUT_S)

    def answer(self) -> tuple[int, HTTPResponse, bytes]:
        """Return status, response and content of the answer."""
        response = HTTPResponse(self.sock)
        response.begin()
        return response.status, response, response.read()

    def vanish(self) -> None:
        """Close the connection without a word."""
        with contextlib.suppress(OSError):
            self.sock.close()


@final
@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds that calls took, by name."""

    seconds: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def add(self, name: str, seconds: float) -> None:
        """Keep one."""
        self.seconds.setdefault(name, []).append(seconds)

    def __str__(self) -> str:
        """Return the median and the slowest percent of each, with the machine's load."""
        shown = [
            f"{name} p50 {1e3 * percentile(of, 0.5):.1f} p99 {1e3 * percentile(of, 0.99):.1f}"
            for name, of in self.seconds.items()
        ]
        return f"{', '.join(shown)} ms (load {os.getloadavg()[0]:.1f})"
