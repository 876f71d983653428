"""One request and its whole response, within one bound of time."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import httpcore
import httpx

from loops_transport_http.client.pools import AsyncPools, SyncPools
from loops_transport_http.client.requests import WireRequest, origin_of
from loops_transport_http.client.sockets import time_limit
from loops_transport_http.wire import names

CONNECT_S: Final = 10.0
"""How long a connection may take to be made."""

_FAILURES: Final = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)
_SECRET: Final = frozenset({"Authorization", names.IDEMPOTENCY_KEY})
"""Headers that no error carries along."""


def exchange(pools: SyncPools, request: WireRequest, timeout_s: float) -> httpx.Response:
    """Return the response, its body read.

    Raises:
        httpx.HTTPError: there is no connection, it broke, or the time is over.
    """
    with _as_httpx(), time_limit(timeout_s):
        pool = pools.to(origin_of(request.url))
        response = pool.handle_request(_to_core(request, timeout_s))
        try:
            content = response.read()
        finally:
            response.close()
    return _to_httpx(request, response, content)


async def exchange_async(
    pools: AsyncPools, request: WireRequest, timeout_s: float
) -> httpx.Response:
    """Do what `exchange` does without blocking the event loop."""
    try:
        with _as_httpx():
            async with asyncio.timeout(timeout_s):
                pool = pools.to(origin_of(request.url))
                response = await pool.handle_async_request(_to_core(request, timeout_s))
                try:
                    content = await response.aread()
                finally:
                    await response.aclose()
    except TimeoutError as error:
        raise httpx.ReadTimeout(f"not answered within {timeout_s:g} s") from error
    return _to_httpx(request, response, content)


@contextmanager
def _as_httpx() -> Generator[None]:
    """Raise failures as httpx names them; they have the same names below it."""
    try:
        yield
    except _FAILURES as error:
        name = type(error).__name__
        kind: type[httpx.TransportError] = getattr(httpx, name, httpx.TransportError)
        raise kind(str(error) or name) from error


def _to_core(request: WireRequest, timeout_s: float) -> httpcore.Request:
    host = urlsplit(request.url).netloc.rpartition("@")[2]
    headers = [(b"Host", host.encode()), *_encoded(request.headers)]
    if request.content or request.method != "GET":
        headers.append((b"Content-Length", b"%d" % len(request.content)))
    limits = {
        "connect": min(CONNECT_S, timeout_s),
        "read": timeout_s,
        "write": timeout_s,
        "pool": timeout_s,
    }
    return httpcore.Request(
        request.method,
        request.url,
        headers=headers,
        content=request.content,
        extensions={"timeout": limits},
    )


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _to_httpx(request: WireRequest, response: httpcore.Response, content: bytes) -> httpx.Response:
    """Return the response decoded; a refusal shows its request, without what is secret in it."""
    shown = None
    if response.status >= HTTPStatus.MULTIPLE_CHOICES:
        headers = {name: value for name, value in request.headers.items() if name not in _SECRET}
        shown = httpx.Request(request.method, request.url, headers=headers)
    return httpx.Response(response.status, headers=response.headers, content=content, request=shown)
