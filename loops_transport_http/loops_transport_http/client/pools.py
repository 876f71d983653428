"""Connection pools: one for each way to a service, straight or by a proxy of the environment."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar, final
from urllib.parse import urlsplit

import httpcore
import httpx

from loops_transport_http.client.sockets import TimedBackend

PoolT = TypeVar("PoolT")

MOST_CONNECTIONS: Final = 200
_KEEPALIVE_S: Final = 120.0
"""As published clients have both; a server keeps idle connections longer than that."""

_PROBES: Final = (
    ("TCP_KEEPIDLE", 60),
    ("TCP_KEEPINTVL", 30),
    ("TCP_KEEPCNT", 5),
)
"""When an idle peer is asked whether it is still there; as published clients have it."""


class SyncPool(Protocol):
    """What a pool for threads does."""

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        """Return the response, whose body is still to be read."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class AsyncPool(Protocol):
    """What a pool of one event loop does."""

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Return the response, whose body is still to be read."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


@final
class Pools(Generic[PoolT]):
    """Pools by the way to an origin, each made at its first use."""

    def __init__(self, make: Callable[[bool, str | None], PoolT]) -> None:
        """Make pools when they are needed.

        Args:
            make: returns a pool, given whether it speaks TLS and the address of a proxy.
        """
        self._make = make
        self._lock = threading.Lock()
        self._by_origin: dict[str, PoolT] = {}
        self._by_way: dict[tuple[bool, str | None], PoolT] = {}

    def to(self, origin: str) -> PoolT:
        """Return the pool for requests to an origin, such as `http://h:1`."""
        pool = self._by_origin.get(origin)
        if pool is None:
            way = (origin.startswith("https:"), proxy_of(origin))
            with self._lock:
                pool = self._by_way.get(way)
                if pool is None:
                    pool = self._by_way[way] = self._make(*way)
                self._by_origin[origin] = pool
        return pool

    def take(self) -> list[PoolT]:
        """Return every pool that was made, and forget them."""
        with self._lock:
            taken = list(self._by_way.values())
            self._by_way.clear()
            self._by_origin.clear()
        return taken


@final
class AsyncPools:
    """The pools of one event loop."""

    def __init__(self, *, http2: bool, most: int = MOST_CONNECTIONS) -> None:
        """Make pools when they are needed."""
        self._pools: Pools[AsyncPool] = Pools(
            lambda tls, proxy: httpcore.AsyncConnectionPool(
                **_options(tls, proxy, http2=http2, most=most)
            )
        )

    def to(self, origin: str) -> AsyncPool:
        """Return the pool for requests to an origin."""
        return self._pools.to(origin)

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools.take():
            await pool.aclose()


@final
class SyncPools:
    """The pools of all threads."""

    def __init__(self, *, http2: bool, most: int = MOST_CONNECTIONS) -> None:
        """Make pools when they are needed."""
        self._backend = TimedBackend(joins_writes=not http2)
        self._pools: Pools[SyncPool] = Pools(
            lambda tls, proxy: httpcore.ConnectionPool(
                **_options(tls, proxy, http2=http2, most=most),
                network_backend=self._backend,
            )
        )

    def to(self, origin: str) -> SyncPool:
        """Return the pool for requests to an origin."""
        return self._pools.to(origin)

    def close(self) -> None:
        """Close all connections, those in use too."""
        self._backend.abort()
        for pool in self._pools.take():
            pool.close()


def proxy_of(origin: str) -> str | None:
    """Return the proxy that the environment names for an origin, if any.

    `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` count, as everywhere.
    """
    parts = urlsplit(origin)
    proxies = urllib.request.getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found or urllib.request.proxy_bypass(parts.netloc):
        return None
    return found if "://" in found else f"http://{found}"


def _options(tls: bool, proxy: str | None, *, http2: bool, most: int) -> dict[str, Any]:  # noqa: FBT001 - of one way
    needs_tls = tls or (proxy or "").startswith("https:")
    return {
        "ssl_context": httpx.create_ssl_context() if needs_tls else None,
        "proxy": None if proxy is None else _proxy(proxy),
        "max_connections": most,
        "max_keepalive_connections": most,
        "keepalive_expiry": _KEEPALIVE_S,
        "http2": http2,
        "socket_options": _socket_options(),
    }


def _proxy(url: str) -> httpcore.Proxy:
    given = httpx.Proxy(url)
    auth = None if given.auth is None else tuple(part.encode() for part in given.auth)
    return httpcore.Proxy(str(given.url), auth=auth)  # type: ignore[arg-type]  # of two parts


def _socket_options() -> list[tuple[int, int, int]]:
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in _PROBES:
        number = getattr(socket, name, None)  # not every system has all
        if number is not None:
            options.append((socket.IPPROTO_TCP, number, value))
    return options
