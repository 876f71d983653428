"""No secret reaches a cassette."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_core import ServiceClient
from loops_core.errors import UsageError
from loops_core.hooks import TransportConfig, hookimpl
from loops_core.plugins import Plugins
from loops_core.protocols import BodyLimits, Transport
from loops_core.types.base import WireModel
from loops_core.types.checkpoint import CheckpointFile, CheckpointFilesResponse
from loops_core.types.routes import Call
from loops_mock.cassette import record
from loops_mock.cassette.scrubbing import SCRUBBED, Scrubber, is_secret_name

ReplyT = TypeVar("ReplyT", bound=WireModel)

KEY = "lk-9f8e7d6c5b4a/+secret"
SIGNATURE = "0123456789abcdefSIGNED"
LINK = f"https://files.example/a/b.bin?X-Amz-Credential=me&X-Amz-Signature={SIGNATURE}"


class Leaky:
    """A service that repeats every secret that it hears of."""

    repeats_creates = True

    def body_limits(self, base_url: str | None) -> BodyLimits:
        return BodyLimits()

    def heartbeat_s(self, base_url: str | None) -> float | None:
        return None

    def send(self, call: Call[ReplyT]) -> ReplyT:
        if call.route.name == "list_teams":
            raise UsageError(f"refused: Authorization: Api-Key {KEY}, asked of {LINK}")
        when = datetime(2026, 1, 1, tzinfo=UTC)
        file = CheckpointFile(
            url=LINK, relative_file_name="b.bin", size_bytes=4, last_modified=when
        )
        reply = CheckpointFilesResponse(presigned_urls=[file], total_count=1)
        return call.route.reply_type.model_validate(reply.model_dump())

    async def send_async(self, call: Call[ReplyT]) -> ReplyT:
        return self.send(call)

    def download(self, url: str, target: Path, *, size_bytes: int) -> None:
        target.write_bytes(b"data")

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


class LeakyPlugin:
    @hookimpl
    def loops_transport(self, url: str, config: TransportConfig) -> Transport | None:
        return Leaky() if url.startswith("leaky:") else None


def test_no_byte_of_a_secret_is_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_TOKEN", "tok-from-the-environment")
    path = tmp_path / "run.loops"
    url = f"leaky://user:hunter2@host/?api_key={KEY}&note=tok-from-the-environment"
    plugins = Plugins.load(extra=[LeakyPlugin()])
    with (
        record(path),
        ServiceClient(base_url=url, api_key=KEY, plugins=plugins) as service,
        ServiceClient(base_url=url, api_key=KEY, team="t", plugins=plugins) as other,
    ):
        service.download_checkpoint(checkpoint_id="c1", dest_dir=tmp_path / "files")
        with pytest.raises(UsageError):
            other.create_lora_training_client("model")
    raw = path.read_bytes()
    for secret in (KEY, SIGNATURE, "hunter2", "tok-from-the-environment"):
        assert secret.encode() not in raw, secret
    assert raw.count(SCRUBBED.encode()) >= 4
    with ServiceClient(base_url=f"cassette:{path}", api_key="another") as service:
        found = service.download_checkpoint(checkpoint_id="c1", dest_dir=tmp_path / "again")
    assert found.bytes_written == 4


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://u:p@host/a", "https://host/a"),
        ("https://host/a?sig=abc&page=2", "https://host/a?sig=(scrubbed)&page=2"),
        ("https://host/a?page_token=3", "https://host/a?page_token=3"),
        (
            "https://host/files/InBheWxvYWQi.awcq_w.SJRmsLsqJ9BI6pOCFKafGuDp/state.json",
            "https://host/files/InBheWxvYWQi.(scrubbed)/state.json",
        ),
        ("Bearer abcdef0123456789", "Bearer (scrubbed)"),
        ('{"Authorization":"Api-Key abcdef99"}', '{"Authorization":"(scrubbed)"}'),
        ("bearer of bad news, basic training", "bearer of bad news, basic training"),
        ("2 + 2 = 4; mail me@example.org", "2 + 2 = 4; mail me@example.org"),
    ],
)
def test_what_looks_like_a_secret_is_replaced_and_nothing_else(text: str, clean: str) -> None:
    assert Scrubber().text(text) == clean


@given(st.text(max_size=80))
def test_a_scrubbed_text_stays_as_it_is(text: str) -> None:
    scrubber = Scrubber(["a-secret-of-mine"])
    once = scrubber.text(f"https://{text}?key={text}&a-secret-of-mine")
    assert scrubber.text(once) == once
    assert "a-secret-of-mine" not in once


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "sig", "x-api-key"])
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret_name(name)
