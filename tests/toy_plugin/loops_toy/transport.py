"""A transport around another one, which counts the calls that it carries."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TypeVar, final

from loops_core.protocols import BodyLimits, Transport
from loops_core.types.base import WireModel
from loops_core.types.routes import Call

ReplyT = TypeVar("ReplyT", bound=WireModel)

calls: Counter[str] = Counter()
"""How often each route was taken, in this process."""


@final
class CountingTransport:
    """A `Transport` that hands every call on."""

    def __init__(self, inner: Transport) -> None:
        """Hand calls on to `inner`, which is closed with this one."""
        self._inner = inner

    def body_limits(self, base_url: str | None) -> BodyLimits:
        """Return the inner transport's bounds."""
        return self._inner.body_limits(base_url)

    @property
    def repeats_creates(self) -> bool:
        """Return what the inner transport says."""
        return self._inner.repeats_creates

    def heartbeat_s(self, base_url: str | None) -> float | None:
        """Return what the inner transport says."""
        return self._inner.heartbeat_s(base_url)

    def send(self, call: Call[ReplyT]) -> ReplyT:
        """Count the call and return the reply."""
        calls[call.route.name] += 1
        return self._inner.send(call)

    async def send_async(self, call: Call[ReplyT]) -> ReplyT:
        """Count the call and return the reply."""
        calls[call.route.name] += 1
        return await self._inner.send_async(call)

    def download(self, url: str, target: Path, *, size_bytes: int) -> None:
        """Have the inner transport read the link."""
        self._inner.download(url, target, size_bytes=size_bytes)

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()
