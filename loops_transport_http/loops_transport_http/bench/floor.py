"""The floor: one POST and one GET with nothing around them, by two libraries."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self, final
from urllib.parse import urlsplit

import httpx

from loops_transport_http.wire import names

_HEADERS: Final = {"Content-Type": names.JSON}


@final
class HttpxPair:
    """A raw `httpx` client that submits a body made before, and fetches the result."""

    def __init__(
        self, trainer_url: str, body: bytes, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Say where to and what; the first call connects."""
        self._url = trainer_url
        self._body = body
        self._client = httpx.Client(timeout=60.0, headers=dict(headers or {}))

    def __call__(self) -> object:
        """Return the result, decoded as JSON."""
        accepted = self._client.post(
            f"{self._url}/forward_backward", content=self._body, headers=_HEADERS
        )
        operation_id: str = accepted.raise_for_status().json()["operation_id"]
        status = self._client.get(f"{self._url}/operations/{operation_id}")
        return status.raise_for_status().json()["result"]

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self._client.close()


@final
class StandardPair:
    """The same by the standard library's `http.client`, on one connection without delays."""

    def __init__(self, trainer_url: str, body: bytes) -> None:
        """Connect."""
        parts = urlsplit(trainer_url)
        self._path = parts.path
        self._body = body
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __call__(self) -> object:
        """Return the result, decoded as JSON."""
        accepted = self._ask("POST", f"{self._path}/forward_backward", self._body)
        return self._ask("GET", f"{self._path}/operations/{accepted['operation_id']}")["result"]

    def _ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        self._connection.request(method, path, body, _HEADERS if body is not None else {})
        answer: dict[str, Any] = json.loads(self._connection.getresponse().read())
        return answer

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self._connection.close()
