"""The HTTP transport: calls over httpx, from threads and from event loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, TypedDict, TypeVar, cast, final

import httpx

from loops_core.client.drivers import drive, drive_async
from loops_core.clock import Clock, SystemClock
from loops_core.errors import LoopsError, SampleTimeoutError, UnreachableError, UsageError
from loops_core.protocols import BodyLimits
from loops_core.types import routes
from loops_core.types.base import WireModel
from loops_core.types.operation import OperationStatus
from loops_core.types.routes import RETRIEVE, Call
from loops_transport_http.client.downloads import download
from loops_transport_http.client.exchange import exchange, exchange_async
from loops_transport_http.client.loop_clients import LoopClients
from loops_transport_http.client.polls import LoopPolls, ThreadPolls
from loops_transport_http.client.pools import MOST_CONNECTIONS, AsyncPools, Pools, SyncPools
from loops_transport_http.client.queued import await_sample, is_queued
from loops_transport_http.client.replies import read_reply
from loops_transport_http.client.requests import (
    STANDARD_TIMEOUT_S,
    Address,
    WireRequest,
    origin_of,
    to_request,
)
from loops_transport_http.wire import names
from loops_transport_http.wire.features import Features

ReplyT = TypeVar("ReplyT", bound=WireModel)

JSON_CAP_BYTES: Final = 24 * 1024 * 1024
"""The protocol's bound of one request's JSON body."""

PIECE_BYTES: Final = 32 * 1024 * 1024
"""The largest packed body: a broken connection costs no more than this to repeat."""

HEARTBEAT_S: Final = 60.0
"""As published clients have it; an idle trainer is shut down after fifteen minutes."""

_LEAST_TIMEOUT_S: Final = 0.001
"""A socket takes no time of zero."""


class _Sharing(TypedDict):
    """What polls share at an address."""

    origin: str
    shared: bool


@final
class HttpTransport:
    """Carries calls to a service over HTTP; safe from many threads and event loops.

    Nothing is repeated here: a `TransportError` says that the call may be, under its key.
    """

    def __init__(
        self,
        address: Address,
        *,
        http2: bool = False,
        compresses: bool = False,
        most_connections: int = MOST_CONNECTIONS,
        clock: Clock | None = None,
    ) -> None:
        """Open no connection yet.

        Args:
            address: where the service is.
            http2: whether HTTP/2 is offered to the server.
            compresses: whether bodies are compressed where the server reads that.
            most_connections: how many are open at once for all threads, and for each event loop.
            clock: where the pauses of a download that broke off come from.
        """
        self._clock = clock or SystemClock()
        self._address = address
        self._compresses = compresses
        self._features: dict[str, Features] = {}
        self._pools = SyncPools(http2=http2, most=most_connections)
        self._links: Pools[httpx.BaseTransport] = Pools(
            lambda _, proxy: httpx.HTTPTransport(proxy=proxy)
        )
        self._thread_polls = ThreadPolls(self._carry)
        self._loop_polls = LoopPolls(self._carry_async)
        self._loops = LoopClients(lambda: AsyncPools(http2=http2, most=most_connections))
        self._closed = False

    def body_limits(self, base_url: str | None) -> BodyLimits:
        """Return how large a body sent to an address may be; as far as is known by now."""
        features = self.features(self._address.root_of(base_url))
        if not features.tensors:
            return BodyLimits(max_bytes=JSON_CAP_BYTES)
        advertised = features.max_body_bytes or PIECE_BYTES
        return BodyLimits(
            max_bytes=min(advertised, PIECE_BYTES), is_packed=True, takes_parts=features.parts
        )

    def features(self, url: str) -> Features:
        """Return what the server at a URL has advertised so far."""
        return self._features.get(origin_of(url), Features())

    @property
    def repeats_creates(self) -> bool:
        """Return whether the service is one of ours, which keep the keys of creates.

        The published protocol has no keys for them.
        """
        return self.features(self._address.base_url) != Features()

    def heartbeat_s(self, base_url: str | None) -> float | None:
        """Return how often a trainer wants a sign of life; ours does not end when it is idle."""
        is_ours = self.features(self._address.root_of(base_url)) != Features()
        return None if is_ours else HEARTBEAT_S

    def send(self, call: Call[ReplyT]) -> ReplyT:
        """Return the service's reply; blocks the calling thread."""
        self._check_open()
        if _is_held(call):
            poll = cast("Call[OperationStatus]", call)
            return cast("ReplyT", self._thread_polls.wait(poll, **self._sharing(call)))
        return self._carry(call)

    async def send_async(self, call: Call[ReplyT]) -> ReplyT:
        """Return the service's reply; never blocks the event loop."""
        self._check_open()
        if _is_held(call):
            poll = cast("Call[OperationStatus]", call)
            return cast("ReplyT", await self._loop_polls.wait(poll, **self._sharing(call)))
        return await self._carry_async(call)

    def _carry(self, call: Call[ReplyT]) -> ReplyT:
        request = self._request(call)
        try:
            response = exchange(self._pools, request, _timeout_s(call))
        except httpx.HTTPError as error:
            self._check_open()
            raise self._unreachable(call, request, error) from error
        self._learn(request, response)
        if is_queued(call, response):
            flow = await_sample(call, response, self._clock, _timeout_s(call))
            return cast("ReplyT", drive(flow, self, self._clock))
        return read_reply(call, response)

    async def _carry_async(self, call: Call[ReplyT]) -> ReplyT:
        request = self._request(call)
        try:
            pools = await self._loops.client()
            response = await exchange_async(pools, request, _timeout_s(call))
        except httpx.HTTPError as error:
            self._check_open()
            raise self._unreachable(call, request, error) from error
        self._learn(request, response)
        if is_queued(call, response):
            flow = await_sample(call, response, self._clock, _timeout_s(call))
            return cast("ReplyT", await drive_async(flow, self, self._clock))
        return read_reply(call, response)

    def download(self, url: str, target: Path, *, size_bytes: int) -> None:
        """Write what a link leads to into a file; no key is shown to it."""
        self._check_open()
        download(self._open_link, url, target, size_bytes=size_bytes, clock=self._clock)

    def close(self) -> None:
        """Give back all connections; may be called twice."""
        self._close_pools()
        self._loops.close()

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop."""
        self._close_pools()
        await self._loops.aclose()

    def _sharing(self, call: Call[Any]) -> _Sharing:
        url = self._address.url_of(call)
        return {"origin": origin_of(url), "shared": self.features(url).poll}

    def _close_pools(self) -> None:
        self._closed = True
        self._thread_polls.close(_closed())
        self._pools.close()
        for link in self._links.take():
            link.close()

    def _open_link(self, request: httpx.Request) -> httpx.Response:
        """Return the response to a request that shows no key and that nothing logs."""
        return self._links.to(origin_of(str(request.url))).handle_request(request)

    def _request(self, call: Call[Any]) -> WireRequest:
        url = self._address.url_of(call)
        return to_request(call, self._address, self.features(url), compresses=self._compresses)

    def _learn(self, request: WireRequest, response: httpx.Response) -> None:
        advertised = response.headers.get(names.FEATURES)
        if advertised is not None:
            self._features[origin_of(request.url)] = Features.from_header(advertised)

    def _check_open(self) -> None:
        if self._closed:
            raise _closed()

    def _unreachable(
        self, call: Call[Any], request: WireRequest, error: httpx.HTTPError
    ) -> LoopsError:
        is_sample = call.route.name == routes.SAMPLE.name
        if is_sample and isinstance(error, httpx.ReadTimeout):
            limit_s = _timeout_s(call)
            return SampleTimeoutError(
                f"the sample was not answered within {limit_s:g} s", timeout=limit_s
            )
        what = str(error) or type(error).__name__
        return UnreachableError(
            f"{call.route.name} ({request.method} {request.url}) was not answered: "
            f"{type(error).__name__}: {what}",
            run_id=call.run_id,
        )


def _closed() -> UsageError:
    return UsageError("the client is closed: open a new ServiceClient")


def _is_held(call: Call[Any]) -> bool:
    return call.route.name == RETRIEVE.name and call.hold_s > 0


def _timeout_s(call: Call[Any]) -> float:
    return STANDARD_TIMEOUT_S if call.timeout_s is None else max(call.timeout_s, _LEAST_TIMEOUT_S)
