"""The OpenAPI document is correct: thousands of requests made from it meet what it says.

A short search runs always; LOOPS_LONG_FUZZ=1 makes more than 10,000 requests.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx
import pytest
from tests.server.life import DATUM, done, open_run
from tests.serving import KEY, Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed"
    ),
]

IS_LONG: Final = os.environ.get("LOOPS_LONG_FUZZ") == "1"

CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
)


def fuzz(server: Server, settings: Path, *, max_examples: int, phases: str, seed: int) -> int:
    """Search for a request whose answer is not what the document says; return their number."""
    target = ["run", f"{server.url}/openapi.json", "-H", f"Authorization: Api-Key {KEY}"]
    search = ["--max-examples", str(max_examples), "--phases", phases, "--seed", str(seed)]
    judge = ["--checks", ",".join(CHECKS), "--request-timeout", "60", "--workers", "1"]
    program = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings)]
    run = subprocess.run(
        [*program, *target, *search, *judge],
        capture_output=True,
        text=True,
        check=False,
        cwd=settings.parent,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    counted = re.search(r"(\d+) generated, (\d+) passed", run.stdout)
    assert counted is not None, run.stdout[-2000:]
    assert counted[1] == counted[2]
    return int(counted[1])


def test_no_request_fails_the_server_or_contradicts_the_document(
    server: Server,
    http: httpx.Client,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    run = open_run(http)
    done(http, run["base_url"], "forward_backward", data=[DATUM])
    wanted = {"session_id": run["session_id"], "run_id": run["id"]}
    sampler = http.post("/v1/loops/samplers", json=wanted).json()["sampler"]
    known = tmp_path / "known.toml"
    known.write_text(
        f'[parameters]\ntrainer_id = "{run["id"]}"\nsampler_id = "{sampler["id"]}"\n'
        f'team_id = "local"\nrun_id = "{run["id"]}"\nsession_id = "{run["session_id"]}"\n'
    )
    unknown = tmp_path / "unknown.toml"
    unknown.write_text("")
    if IS_LONG:
        num_requests = sum(
            fuzz(server, settings, max_examples=200, phases="coverage,fuzzing", seed=seed)
            for settings, seed in ((known, 1), (unknown, 2))
        )
        assert num_requests >= 10_000
    else:
        num_requests = fuzz(server, known, max_examples=5, phases="fuzzing", seed=1)
    record_property("num_requests", num_requests)
    assert server.stop() == 0
    assert "Traceback" not in server.log()
