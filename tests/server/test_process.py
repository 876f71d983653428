"""What `loops serve` promises as a process: ready when it says so, and a clean end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest
from tests.server.life import DATUM, done, open_run, result, submit
from tests.serving import KEY, Server

pytestmark = pytest.mark.slow  # each test starts a process


LONG_DATUM: Final = {
    "model_input": {"chunks": [{"type": "encoded_text", "tokens": [5] * 2048}]},
    "loss_fn_inputs": {"target_tokens": {"data": [6] * 2048, "dtype": "int64", "shape": [2048]}},
}
"""Takes the mock a while."""


def send(
    server: Server, method: str, path: str, *, body: bytes | None = None, floor: str = "0"
) -> HTTPConnection:
    """Return a connection on which a request was sent, and whose answer was not read."""
    address = urlsplit(server.url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=60)
    headers = {"Authorization": f"Bearer {KEY}", "X-Min-Policy-Version": floor}
    connection.request(method, path, body, headers)
    return connection


def run_serve(*options: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `loops serve` where it must end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "loops_core.cli", "serve", "--backend", "mock", *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
    )


def test_a_whole_life_goes_over_plain_json(server: Server, http: httpx.Client) -> None:
    run = open_run(http)
    trainer = run["base_url"]
    assert trainer == f"{server.url}/trainers/{run['id']}"
    done(http, trainer, "forward_backward", data=[DATUM])
    done(http, trainer, "optim_step", adam_params={"learning_rate": 0.01})
    saved = done(http, trainer, "save_weights_for_sampler", name="first")
    assert saved["version"] == 1
    assert http.get(f"{trainer}/policy_version").json() == {"policy_version": 1}
    wanted = {"session_id": run["session_id"], "run_id": run["id"]}
    sampler = http.post("/v1/loops/samplers", json=wanted).json()["sampler"]
    sampled = http.post(f"{sampler['base_url']}/sample", json={"prompt": [3], "max_tokens": 2})
    assert sampled.headers["x-trainers-policy-version"] == "1"
    assert len(sampled.json()["choices"][0]["token_ids"]) == 2
    listing = http.get("/v1/loops/checkpoints", params={"run_id": run["id"]}).json()
    assert [row["checkpoint_id"] for row in listing["checkpoints"]] == ["first"]


def test_sigterm_ends_the_process_with_0_and_a_restart_goes_on(
    server: Server, http: httpx.Client
) -> None:
    run = open_run(http)
    before = done(http, run["base_url"], "forward_backward", data=[DATUM])
    assert server.stop() == 0
    server.start()
    again = submit(http, run["base_url"], "forward_backward", data=[DATUM])
    assert result(http, run["base_url"], again)["loss"] == before["loss"]
    assert server.stop() == 0
    assert server.log() == ""


def test_who_waits_is_answered_at_the_end_and_finds_the_result_afterwards(
    server: Server, http: httpx.Client
) -> None:
    run = open_run(http)
    trainer, path = run["base_url"], f"/trainers/{run['id']}"
    ids = [submit(http, trainer, "forward", data=[LONG_DATUM] * 16) for _ in range(4)]
    poll = send(server, "GET", f"{path}/operations/{ids[-1]}")
    wanted = {"session_id": run["session_id"], "run_id": run["id"]}
    sampler = http.post("/v1/loops/samplers", json=wanted).json()["sampler"]["id"]
    sample = send(
        server,
        "POST",
        f"/samplers/{sampler}/sample",
        body=b'{"prompt": [3], "max_tokens": 2}',
        floor="7",
    )
    assert http.get("/health").status_code == 200  # both requests were read before this one
    assert server.stop() == 0
    with closing(poll), closing(sample):
        answer = poll.getresponse()
        assert (answer.status, answer.read()) == (408, b"")  # published clients ask again then
        assert sample.getresponse().status == 503
    server.start()
    assert result(http, trainer, ids[-1]) == result(http, trainer, ids[0])


def test_a_second_signal_ends_at_once(server: Server) -> None:
    server.process.send_signal(signal.SIGSTOP)  # both signals wait for the process
    server.process.send_signal(signal.SIGTERM)
    server.process.send_signal(signal.SIGINT)
    server.process.send_signal(signal.SIGCONT)
    assert server.process.wait(timeout=30) in (0, 128 + signal.SIGINT, 128 + signal.SIGTERM)


def test_a_kill_loses_nothing_that_was_accepted(server: Server, http: httpx.Client) -> None:
    trainer = open_run(http)["base_url"]
    ids = [submit(http, trainer, "forward_backward", data=[DATUM]) for _ in range(5)]
    server.kill()
    server.start()
    losses = {result(http, trainer, operation_id)["loss"] for operation_id in ids}
    assert len(losses) == 1


def test_without_a_key_one_is_made_once_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with Server(folder, api_keys=()) as server:
        made = server.api_key
        assert made is not None
        assert httpx.get(f"{server.url}/v1/teams").status_code == 401
        headers = {"Authorization": f"Api-Key {made}"}
        assert httpx.get(f"{server.url}/v1/teams", headers=headers).status_code == 200
        server.restart()
        assert server.api_key is None
        assert httpx.get(f"{server.url}/v1/teams", headers=headers).status_code == 200
        assert made not in server.log()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if made.encode() in path.read_bytes()]
    assert (folder / "keys.json").stat().st_mode & 0o077 == 0


def test_two_base_models_are_served_beside_each_other(tmp_path: Path) -> None:
    with (
        Server(tmp_path / "data", base_models=("mock-a", "other=mock-b")) as server,
        httpx.Client(base_url=server.url, headers={"Authorization": f"Api-Key {KEY}"}) as http,
    ):
        offered = http.get("/v1/loops/capabilities").json()["supported_models"]
        assert [model["model_name"] for model in offered] == ["mock-a", "other"]
        losses = [
            done(http, open_run(http, name)["base_url"], "forward", data=[DATUM])["loss"]
            for name in ("mock-a", "other")
        ]
        assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--host", "0.0.0.0"), "--api-key"),
        (("--host", "::", "--no-auth"), "--api-key"),
        (("--host", "0.0.0.0", "--no-auth", "--api-key", "k"), "exclude"),
        (("--api-key", "not a key"), "printable ASCII"),
        (("--base-model", "mock-a", "--base-model", "mock-a"), "given twice"),
        (("--base-model", "nobody-knows"), "was not found"),
    ],
)
def test_a_mistaken_start_says_what_is_wrong(
    options: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    ended = run_serve("--port", "0", "--data-dir", str(tmp_path), *options, LOOPS_API_KEY="")
    assert ended.returncode in (1, 2)
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "not a key" not in ended.stderr


def test_the_help_teaches_with_examples() -> None:
    ended = run_serve("--help")
    assert ended.returncode == 0
    assert all(word in ended.stdout for word in ("--base-model", "LOOPS_API_KEY", "loops serve"))
