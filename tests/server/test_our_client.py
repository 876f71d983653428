"""Our client against `loops serve`: what the contract suite does not ask."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest
from tests.serving import KEY, Server

from loops_core import AdamParams, Datum, ModelInput, ServiceClient, TensorData
from loops_core.errors import UsageError

pytestmark = pytest.mark.slow  # each test starts a process

PROMPT: Final = ModelInput.from_ints([5, 6])
DATUM: Final = Datum(
    model_input=PROMPT,
    loss_fn_inputs={"target_tokens": TensorData(data=[6, 7], dtype="int64", shape=[2])},
)


def test_a_checkpoint_is_downloaded_over_the_servers_links(server: Server, tmp_path: Path) -> None:
    with ServiceClient(base_url=server.url, api_key=KEY) as service:
        trainer = service.create_lora_training_client("mock-tiny", rank=4)
        trainer.save_state("one").result()
        links = trainer.get_checkpoint_archive_url("one").presigned_urls
        download = trainer.download_checkpoint("one", dest_dir=tmp_path / "copy")
    files = {path for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert all(link.url.startswith(server.url) for link in links)
    assert {path.relative_to(tmp_path / "copy").as_posix() for path in files} == {
        link.relative_file_name for link in links
    }
    assert download.bytes_written == sum(path.stat().st_size for path in files) > 0


def test_a_local_pair_trains_publishes_saves_and_loads(server: Server) -> None:
    addresses = f"{server.url}/trainers/local", f"{server.url}/samplers/local"
    with ServiceClient.local(*addresses, api_key=KEY) as service:
        trainer = service.create_lora_training_client("mock-tiny", rank=4)
        assert trainer.run_id is None
        saved = trainer.save_state("one").result()
        before = trainer.forward([DATUM]).result().loss
        trainer.forward_backward([DATUM])
        trainer.optim_step(AdamParams(learning_rate=0.1)).result()
        first = trainer.save_weights_and_get_sampling_client("first").result()
        path = trainer.save_weights_for_sampler("second").result().path
        assert trainer.policy_version == 2
        assert trainer.load_state_with_optimizer(saved.path).result().step == 0
        assert trainer.forward([DATUM]).result().loss == before
        pinned = trainer.create_sampling_client(path)
        alone = service.create_sampling_client(model_path=path)
        versions = [client.sample(PROMPT).policy_version for client in (first, pinned, alone)]
        assert versions == [2, 2, 2]
        trainer.save_weights_and_get_sampling_client("third").result()
        versions = [client.sample(PROMPT).policy_version for client in (first, pinned, alone)]
        assert versions == [3, 3, 2]


def test_a_local_pair_shows_that_it_wants_a_key(server: Server) -> None:
    addresses = f"{server.url}/trainers/local", f"{server.url}/samplers/local"
    with ServiceClient.local(*addresses) as service, pytest.raises(UsageError, match="api_key"):
        service.create_lora_training_client("mock-tiny")


def test_a_lost_reply_of_a_create_makes_no_second_run(server: Server) -> None:
    with losing(server.url, b"POST /v1/loops/trainers ") as (url, lost):
        with ServiceClient(base_url=url, api_key=KEY) as service:
            trainer = service.create_lora_training_client("mock-tiny", rank=4)
            trainer.forward([DATUM]).result()
        assert lost == [b"HTTP/1.1 200 OK"]
    headers = {"Authorization": f"Api-Key {KEY}"}
    runs = httpx.get(f"{server.url}/v1/loops/runs", headers=headers).json()["runs"]
    assert [run["id"] for run in runs] == [trainer.run_id]


@contextmanager
def losing(url: str, request: bytes) -> Generator[tuple[str, list[bytes]]]:
    """Yield the address of a proxy that loses the first reply to a request, and what it lost."""
    lost: list[bytes] = []
    there = urlsplit(url)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((there.hostname or "", there.port or 0)) as far:
                threading.Thread(target=self.pass_on, args=(far,), daemon=True).start()
                while answer := far.recv(65536):
                    if self.newest.startswith(request) and not lost:
                        lost.append(answer.partition(b"\r\n")[0])
                        return
                    self.request.sendall(answer)

        def pass_on(self, far: socket.socket) -> None:
            with suppress(OSError):
                while asked := self.request.recv(65536):
                    if asked.startswith((b"GET ", b"POST ")):  # not the rest of one
                        self.newest = asked
                    far.sendall(asked)
                far.shutdown(socket.SHUT_WR)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as proxy:
        proxy.daemon_threads = True
        threading.Thread(target=proxy.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{proxy.server_address[1]}", lost
        finally:
            proxy.shutdown()
