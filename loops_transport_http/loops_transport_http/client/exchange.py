"""One request and its whole response, within one bound of time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Final

import httpx

from loops_transport_http.client.requests import WireRequest

CONNECT_S: Final = 10.0
"""How long a connection may take to be made, and a request to get one of the pool's."""

_PIECE: Final = 256 * 1024
"""A large body is written in pieces of this many bytes, with a look at the time between them."""


def exchange(client: httpx.Client, request: WireRequest, timeout_s: float) -> httpx.Response:
    """Return the response, its body read.

    A socket's own time limit starts again with every byte that arrives, so a peer that trickles
    could hold a call for ever: the time is looked at between pieces, too.

    Raises:
        httpx.HTTPError: there is no connection, it broke, or the time is over.
    """
    deadline = time.monotonic() + timeout_s
    sent = client.build_request(
        request.method,
        request.url,
        content=_pieces(request.content, deadline),
        headers=_with_length(request),
        timeout=_limits(timeout_s),
    )
    response = client.send(sent, stream=True)
    try:
        content = bytearray()
        for piece in response.iter_raw():
            content += piece
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout(f"not answered within {timeout_s:g} s", request=sent)
    finally:
        response.close()
    return _read(response, bytes(content))


async def exchange_async(
    client: httpx.AsyncClient, request: WireRequest, timeout_s: float
) -> httpx.Response:
    """Do what `exchange` does without blocking the event loop."""
    try:
        async with asyncio.timeout(timeout_s):
            return await client.request(
                request.method,
                request.url,
                content=request.content,
                headers=request.headers,
                timeout=_limits(timeout_s),
            )
    except TimeoutError as error:
        raise httpx.ReadTimeout(f"not answered within {timeout_s:g} s") from error


def _limits(timeout_s: float) -> httpx.Timeout:
    return httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))


def _with_length(request: WireRequest) -> dict[str, str]:
    return {**request.headers, "Content-Length": str(len(request.content))}


def _pieces(content: bytes, deadline: float) -> bytes | Iterator[bytes]:
    """Return the body, in pieces where it is large."""
    return content if len(content) <= _PIECE else _timed_pieces(content, deadline)


def _timed_pieces(content: bytes, deadline: float) -> Iterator[bytes]:
    view = memoryview(content)
    for start in range(0, len(view), _PIECE):
        if time.monotonic() > deadline:
            raise httpx.WriteTimeout("the body was not taken in time")
        yield bytes(view[start : start + _PIECE])


def _read(response: httpx.Response, content: bytes) -> httpx.Response:
    """Return the response with its content, decoded as its headers say."""
    return httpx.Response(
        response.status_code,
        headers=response.headers,
        content=content,
        request=response.request,
        extensions=response.extensions,
    )
