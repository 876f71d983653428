"""One service in memory that all clients of a test share: `shared:NAME`.

`inproc:mock` gives every client a service of its own. Here code under test that opens a client by
`LOOPS_BASE_URL` reaches the service that its test looks into.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias, TypeVar, final

from loops_core.errors import PluginError, UsageError
from loops_core.hooks import TransportConfig
from loops_core.inprocess import InProcessTransport
from loops_core.protocols import BodyLimits, Transport
from loops_core.types.base import WireModel
from loops_core.types.deployment import CreateTrainerBody
from loops_core.types.routes import Call
from loops_core.types.sampling import SampleBody

ReplyT = TypeVar("ReplyT", bound=WireModel)

Opens: TypeAlias = Callable[[TransportConfig], Transport]

SCHEME: Final = "shared"
_SEED_BITS: Final = 31

_lock: Final = threading.Lock()
_services: Final[dict[str, SharedService]] = {}


def open_mock(config: TransportConfig) -> Transport:
    """Return a transport to a new service on the mock backend, in memory."""
    return InProcessTransport("inproc:mock?data_dir=:memory:", config)


@final
class SharedService:
    """A service, on the mock backend in memory, open from the first client to its own `close`.

    What a client leaves to chance is a function of `seed`: the adapters of trainers that are made
    with `seed=None`, and samples that are drawn with it.

    Attributes:
        url: what clients open.
        seed: where chance comes from.
    """

    def __init__(self, name: str, *, seed: int, opens: Opens = open_mock) -> None:
        """Make a service that clients can open by its URL.

        Args:
            name: the part of the URL behind the scheme.
            seed: where chance comes from.
            opens: opens the transport to it, once.

        Raises:
            UsageError: there is one of this name.
        """
        self.url = f"{SCHEME}:{name}"
        self.seed = seed
        self._lock = threading.Lock()
        self._opens = opens
        self._inner: Transport | None = None
        self._drawn: dict[str, int] = {}
        with _lock:
            if self.url in _services:
                raise UsageError(f"name {name!r} is taken: expected one that nobody uses")
            _services[self.url] = self

    def lease(self, config: TransportConfig) -> Transport:
        """Return a transport to the service; closing it leaves the service open."""
        with self._lock:
            if self._inner is None:
                self._inner = self._opens(config)
            return _Lease(self, self._inner)

    def seeded(self, call: Call[ReplyT]) -> Call[ReplyT]:
        """Return the call, with a seed where it left that to chance."""
        body = call.body
        if not isinstance(body, CreateTrainerBody | SampleBody) or body.seed is not None:
            return call
        drawn = body.model_copy(update={"seed": self._draw(call)})
        return dataclasses.replace(call, body=drawn)

    def close(self) -> None:
        """End the service and forget what is in it; its URL leads nowhere from now on."""
        with _lock:
            _services.pop(self.url, None)
        with self._lock:
            if self._inner is not None:
                self._inner.close()

    def _draw(self, call: Call[ReplyT]) -> int:
        """Return a seed by the number of the call; a repetition under a key has the first's."""
        with self._lock:
            number = len(self._drawn)
            number = self._drawn.setdefault(call.idempotency_key or f"#{number}", number)
        digest = hashlib.sha256(f"{self.seed}/{number}".encode()).digest()
        return int.from_bytes(digest[:8]) >> (64 - _SEED_BITS)


@final
class _Lease:
    """One client's transport to a shared service."""

    def __init__(self, service: SharedService, inner: Transport) -> None:
        self._service = service
        self._inner = inner
        self._closed = False

    def body_limits(self, base_url: str | None) -> BodyLimits:
        return self._inner.body_limits(base_url)

    @property
    def repeats_creates(self) -> bool:
        return self._inner.repeats_creates

    def heartbeat_s(self, base_url: str | None) -> float | None:
        return self._inner.heartbeat_s(base_url)

    def send(self, call: Call[ReplyT]) -> ReplyT:
        self._check_open()
        return self._inner.send(self._service.seeded(call))

    async def send_async(self, call: Call[ReplyT]) -> ReplyT:
        self._check_open()
        return await self._inner.send_async(self._service.seeded(call))

    def download(self, url: str, target: Path, *, size_bytes: int) -> None:
        self._check_open()
        self._inner.download(url, target, size_bytes=size_bytes)

    def close(self) -> None:
        self._closed = True

    async def aclose(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("the client is closed: open a new ServiceClient")


def open_shared(url: str, config: TransportConfig) -> Transport | None:
    """Return a transport to the shared service of this URL; None for another scheme.

    Raises:
        PluginError: there is no such service in this process.
    """
    if url.partition(":")[0] != SCHEME:
        return None
    with _lock:
        service = _services.get(url)
    if service is None:
        raise PluginError(
            f"base_url {url!r}: there is no such service in this process; it lives as long as the "
            "test that opened it, and only in the test's own process",
            field="base_url",
        )
    return service.lease(config)
