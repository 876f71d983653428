"""Training over HTTP/2 and TLS, against a server that offers nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.unit.loops_transport_http.server.conftest import KEYS

from loops_core import AdamParams, Datum, ModelInput, ServiceClient
from loops_transport_http.server.app import Front
from loops_transport_http.server.running import open_socket

pytest.importorskip("hypercorn", reason="the server that speaks HTTP/2")
trustme = pytest.importorskip("trustme", reason="makes the server's certificate")
pytest.importorskip("h2", reason="HTTP/2 in the client")
pytestmark = pytest.mark.slow

PATIENCE_S: Final = 30.0
DATA: Final = [Datum(model_input=ModelInput.from_ints([1, 2, 3, 4]))]


@contextlib.contextmanager
def serving_http2(front: Front, certificate: Path) -> Generator[str]:
    """Serve the application over TLS in a thread; yield its URL."""
    from hypercorn.asyncio import serve  # pyright: ignore[reportUnknownVariableType]
    from hypercorn.config import Config

    listener = open_socket("127.0.0.1", 0)
    port = listener.getsockname()[1]
    config = Config()
    config.loglevel = "ERROR"
    config.bind = [f"fd://{listener.detach()}"]
    config.certfile = config.keyfile = str(certificate)
    config.alpn_protocols = ["h2"]
    ready, ends = threading.Event(), threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen.add(scope["http_version"])
        await front(scope, receive, send)

    async def run() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        threading.Thread(
            target=lambda: (ends.wait(), loop.call_soon_threadsafe(ended.set)), daemon=True
        ).start()
        ready.set()
        await serve(app, config, shutdown_trigger=ended.wait)

    seen: set[str] = set()
    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert ready.wait(PATIENCE_S)
    try:
        yield f"https://localhost:{port}"
    finally:
        ends.set()
        thread.join(PATIENCE_S)
    assert seen == {"2"}


def test_a_step_over_http2_and_tls(
    make_front: Callable[..., Front], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "server.pem"
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    monkeypatch.setenv("LOOPS_HTTP2", "1")
    with (
        serving_http2(make_front(), tmp_path / "server.pem") as url,
        ServiceClient(base_url=url, api_key=KEYS["alice"]) as service,
    ):
        trainer = service.create_lora_training_client("mock-tiny", rank=2)
        passes = [trainer.forward_backward(DATA) for _ in range(20)]
        step = trainer.optim_step(AdamParams(learning_rate=1e-2))
        losses = [future.result(PATIENCE_S).loss for future in passes]
        assert len(set(losses)) == 1
        assert step.result(PATIENCE_S).metrics is not None
        assert trainer.forward(DATA).result(PATIENCE_S).loss < losses[0]
        asyncio.run(_forward_async(trainer))


async def _forward_async(trainer: Any) -> None:
    future = await trainer.forward_async(DATA)
    await future.result_async(PATIENCE_S)
