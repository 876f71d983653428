"""A transport that writes down what passes through it."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar, final

from loops_core.errors import LoopsError
from loops_core.protocols import BodyLimits, Transport
from loops_core.types.base import WireModel
from loops_core.types.routes import Call
from loops_mock.cassette.recorder import Recorder

ReplyT = TypeVar("ReplyT", bound=WireModel)


@final
class RecordingTransport:
    """Carries calls over another transport and tells a recorder; changes nothing on the way."""

    def __init__(self, inner: Transport, recorder: Recorder) -> None:
        """Wrap an open transport, which is closed with this one."""
        self._inner = inner
        self._recorder = recorder

    def body_limits(self, base_url: str | None) -> BodyLimits:
        """Return what the other transport says."""
        limits = self._inner.body_limits(base_url)
        self._recorder.limited(base_url, limits)
        return limits

    @property
    def repeats_creates(self) -> bool:
        """Return what the other transport says."""
        return self._inner.repeats_creates

    def heartbeat_s(self, base_url: str | None) -> float | None:
        """Return what the other transport says."""
        return self._inner.heartbeat_s(base_url)

    def send(self, call: Call[ReplyT]) -> ReplyT:
        """Return the service's reply; blocks the calling thread."""
        number = self._recorder.begin()
        try:
            reply = self._inner.send(call)
        except LoopsError as error:
            self._recorder.failed(number, call, error)
            raise
        self._recorder.answered(number, call, reply)
        return reply

    async def send_async(self, call: Call[ReplyT]) -> ReplyT:
        """Return the service's reply; blocks the event loop only while it is written down."""
        number = self._recorder.begin()
        try:
            reply = await self._inner.send_async(call)
        except LoopsError as error:
            self._recorder.failed(number, call, error)
            raise
        self._recorder.answered(number, call, reply)
        return reply

    def download(self, url: str, target: Path, *, size_bytes: int) -> None:
        """Write what a link leads to into a file, and keep it."""
        self._inner.download(url, target, size_bytes=size_bytes)
        self._recorder.downloaded(url, target)

    def close(self) -> None:
        """Close the other transport; the recorder goes on."""
        self._inner.close()

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop."""
        await self._inner.aclose()
