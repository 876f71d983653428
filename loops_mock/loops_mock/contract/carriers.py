"""What rules put between a client and its transport: small bodies, lost answers, a hasty clock."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar, final

from loops_core.errors import TransportError, UnreachableError
from loops_core.protocols import BodyLimits, Transport
from loops_core.types import routes
from loops_core.types.base import WireModel
from loops_core.types.routes import Call

ReplyT = TypeVar("ReplyT", bound=WireModel)


class Carrier:
    """A transport that hands everything to the one below."""

    def __init__(self, below: Transport) -> None:
        """Carry calls over `below`."""
        self.below: Final = below

    @property
    def repeats_creates(self) -> bool:
        """Return what the transport below says."""
        return self.below.repeats_creates

    def body_limits(self, base_url: str | None) -> BodyLimits:
        """Return those of the transport below."""
        return self.below.body_limits(base_url)

    def heartbeat_s(self, base_url: str | None) -> float | None:
        """Return what the transport below says."""
        return self.below.heartbeat_s(base_url)

    def send(self, call: Call[ReplyT]) -> ReplyT:
        """Return the service's reply; blocks the calling thread."""
        return self.below.send(call)

    async def send_async(self, call: Call[ReplyT]) -> ReplyT:
        """Return the service's reply; never blocks the event loop."""
        return await self.below.send_async(call)

    def download(self, url: str, target: Path, *, size_bytes: int) -> None:
        """Write what a link leads to into a file."""
        self.below.download(url, target, size_bytes=size_bytes)

    def close(self) -> None:
        """Close the transport below."""
        self.below.close()

    async def aclose(self) -> None:
        """Close the transport below without blocking the event loop."""
        await self.below.aclose()


@final
class SmallBodies(Carrier):
    """A transport whose bodies are small, so that a batch of a few datums is a large one."""

    def __init__(self, below: Transport, *, max_bytes: int) -> None:
        """Carry bodies of at most `max_bytes`."""
        super().__init__(below)
        self._max_bytes = max_bytes

    def body_limits(self, base_url: str | None) -> BodyLimits:
        """Return the small bound; how a batch is split stays as it is below."""
        return replace(self.below.body_limits(base_url), max_bytes=self._max_bytes)


@final
class LosesAnswers(Carrier):
    """A transport that loses the first answers of some route: the call has arrived all the same.

    Attributes:
        num_lost: answers lost so far.
    """

    def __init__(
        self,
        below: Transport,
        route: str,
        *,
        times: int = 1,
        error: Callable[[], TransportError] = lambda: UnreachableError("the answer was lost"),
    ) -> None:
        """Lose `times` answers of the route, each with an error like `error`."""
        super().__init__(below)
        self.num_lost = 0
        self._route = route
        self._times = times
        self._error = error
        self._lock = threading.Lock()

    def send(self, call: Call[ReplyT]) -> ReplyT:
        """Return the service's reply, unless it is lost."""
        reply = self.below.send(call)
        self._lose(call.route.name)
        return reply

    async def send_async(self, call: Call[ReplyT]) -> ReplyT:
        """Return the service's reply, unless it is lost."""
        reply = await self.below.send_async(call)
        self._lose(call.route.name)
        return reply

    def _lose(self, route: str) -> None:
        with self._lock:
            is_lost = route == self._route and self.num_lost < self._times
            self.num_lost += is_lost
        if is_lost:
            raise self._error()


@final
class AsksForVersion(Carrier):
    """A transport whose samples ask for a lowest policy version.

    Attributes:
        floor: the version; None = what the client asks for.
    """

    floor: int | None = None

    def send(self, call: Call[ReplyT]) -> ReplyT:
        """Return the service's reply to the call with the floor."""
        return self.below.send(self._raised(call))

    async def send_async(self, call: Call[ReplyT]) -> ReplyT:
        """Return the service's reply to the call with the floor."""
        return await self.below.send_async(self._raised(call))

    def _raised(self, call: Call[ReplyT]) -> Call[ReplyT]:
        if self.floor is None or call.route.name != routes.SAMPLE.name:
            return call
        return replace(call, pin=replace(call.pin, min_policy_version=self.floor))


@final
class HastyClock:
    """The machine's clock, on which sleeping takes no time but is counted as if it had."""

    def __init__(self) -> None:
        """Start at the machine's time."""
        self._skipped = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return the wall-clock time, and what was slept."""
        return time.time() + self._skipped

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back, and what was slept."""
        return time.monotonic() + self._skipped

    def sleep(self, seconds: float) -> None:
        """Return at once."""
        with self._lock:
            self._skipped += max(0.0, seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Return once the event loop has had a turn."""
        self.sleep(seconds)
        await asyncio.sleep(0)
