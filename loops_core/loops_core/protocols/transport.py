"""What a transport is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from loops_core.types.base import WireModel
from loops_core.types.routes import Call

ReplyT = TypeVar("ReplyT", bound=WireModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """How large a call's body may be.

    Attributes:
        max_bytes: the largest body; None = any size.
        is_packed: whether a body's size is that of `frames.pack`; else that of compact JSON.
        takes_parts: whether a batch over the bound travels in parts that become one operation; else
            it is split into several.
    """

    max_bytes: int | None = None
    is_packed: bool = False
    takes_parts: bool = False


class Transport(Protocol):
    """Carries calls to the service and brings back replies.

    `send` may be called from many threads at once, `send_async` from many event loops; both may be
    mixed. A refused call raises the `LoopsError` that the service raised. A `TransportError` means
    that the call may or may not have arrived: the caller repeats it with the same idempotency key.
    A poll (`RETRIEVE`) returns status `pending` after at most `call.hold_s` seconds. After `close`
    every call raises `UsageError`; `close` and `aclose` may be called twice.
    """

    def body_limits(self, base_url: str | None) -> BodyLimits:
        """Return how large a body sent to an address may be; as far as is known by now.

        Args:
            base_url: the answering service's own address, as in a call.
        """
        ...

    @property
    def repeats_creates(self) -> bool:
        """Return whether a create repeated under its key is known to make nothing twice.

        Else a create is sent once: what a lost reply made would have no owner.
        """
        ...

    def heartbeat_s(self, base_url: str | None) -> float | None:
        """Return how often a trainer at an address wants a sign of life, in seconds; None = never.

        Services that shut idle trainers down take a `HEALTH` call as one.
        """
        ...

    def send(self, call: Call[ReplyT]) -> ReplyT:
        """Return the service's reply; blocks the calling thread."""
        ...

    async def send_async(self, call: Call[ReplyT]) -> ReplyT:
        """Return the service's reply; never blocks the event loop."""
        ...

    def download(self, url: str, target: Path, *, size_bytes: int) -> None:
        """Write what a link of the service leads to into a file; blocks the calling thread.

        Links are the `url` of a checkpoint's files. May be called from many threads at once, for
        different targets. After an error the target may hold a part, which the caller removes.

        Args:
            url: the link, as the service gave it.
            target: where to; its directory exists.
            size_bytes: what the service says of the size; anything else is an error.

        Raises:
            UnsupportedError: this transport does not read links of this kind.
            NotFoundError: there is nothing behind the link any more.
            CheckpointError: the link is refused, or what is behind it has another size.
            TransportError: it could not be read, and may be later.
        """
        ...

    def close(self) -> None:
        """Give back connections, threads and files; calls under way end with an error."""
        ...

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop."""
        ...
