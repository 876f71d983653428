"""Batches that travel in parts, or as several operations, are replayed as they were recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import pytest
from tests.unit.loops_mock.cassette.program import MOCK, make_datum

from loops_core import ServiceClient
from loops_core.hooks import TransportConfig, hookimpl
from loops_core.inprocess import InProcessTransport
from loops_core.plugins import Plugins
from loops_core.protocols import BodyLimits, Transport
from loops_core.types.base import WireModel
from loops_core.types.routes import Call
from loops_mock.cassette import record
from loops_mock.cassette.parsing import load_cassette

ReplyT = TypeVar("ReplyT", bound=WireModel)


class Narrow:
    """A service that takes small bodies only."""

    repeats_creates = True

    def __init__(self, inner: Transport, *, takes_parts: bool) -> None:
        self._inner = inner
        self._limits = BodyLimits(max_bytes=10_000, is_packed=True, takes_parts=takes_parts)

    def body_limits(self, base_url: str | None) -> BodyLimits:
        return self._limits

    def heartbeat_s(self, base_url: str | None) -> float | None:
        return None

    def send(self, call: Call[ReplyT]) -> ReplyT:
        return self._inner.send(call)

    async def send_async(self, call: Call[ReplyT]) -> ReplyT:
        return await self._inner.send_async(call)

    def download(self, url: str, target: Path, *, size_bytes: int) -> None:
        self._inner.download(url, target, size_bytes=size_bytes)

    def close(self) -> None:
        self._inner.close()

    async def aclose(self) -> None:
        await self._inner.aclose()


class NarrowPlugin:
    @hookimpl
    def loops_transport(self, url: str, config: TransportConfig) -> Transport | None:
        if not url.startswith("narrow:"):
            return None
        return Narrow(InProcessTransport(MOCK, config), takes_parts=url == "narrow:parts")


@pytest.mark.parametrize("kind", ["parts", "several"])
def test_a_large_batch_is_replayed(tmp_path: Path, kind: str) -> None:
    plugins = Plugins.load(extra=[NarrowPlugin()])

    def losses(url: str) -> list[object]:
        with ServiceClient(base_url=url, plugins=plugins) as service:
            trainer = service.create_lora_training_client("mock-tiny", rank=4, seed=0)
            said = trainer.forward_backward([make_datum(n) for n in range(30)]).result()
            return [said, trainer.forward([make_datum(1)]).result()]

    path = tmp_path / "run.loops"
    with record(path):
        said = losses(f"narrow:{kind}")
    assert losses(f"cassette:{path}") == said
    passes = [
        call for call in load_cassette(path).calls if call.content.route.startswith("forward")
    ]
    assert (len(passes) == 2) is (kind == "parts"), "parts are one operation"
