"""`loops conformance` against `loops serve`: exit codes, reports, and all rules in the long form.

LOOPS_LONG_CONFORMANCE=1 runs every rule against the mock, 150 of them in under a minute, and
against JAX.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.serving import KEY, Server, server

from loops_mock.conformance.document import ConformanceReport
from loops_mock.contract.running import Outcome

__all__ = ["server"]

pytestmark = pytest.mark.slow  # processes

MODELS = {"mock": "mock-tiny", "jax": "loops-tiny"}
ONLY = ("submit", "retrieve.done-shape", "sample-wire.completions-shape", "extensions")


def run(*options: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    """Return the ended command; the key comes from the environment."""
    command = [sys.executable, "-m", "loops_core.cli", "conformance", *options]
    env = {**os.environ, "LOOPS_API_KEY": key, "COLUMNS": "200"}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_a_service_of_ours_keeps_the_contract_and_both_reports_say_so(
    server: Server, tmp_path: Path
) -> None:
    json_path, html_path = tmp_path / "report.json", tmp_path / "report.html"
    reports = ["--json", str(json_path), "--html", str(html_path)]
    ended = run(server.url, *(word for rule in ONLY for word in ("--only", rule)), *reports)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "keeps the contract" in ended.stdout
    report = ConformanceReport.model_validate_json(json_path.read_text())
    assert (report.verdict, report.unsupported) == ("kept", [])
    assert len(report.rules) > 20
    for text in (ended.stdout, ended.stderr, json_path.read_text(), html_path.read_text()):
        assert KEY not in text


def test_a_wrong_key_is_said_in_one_line_with_exit_code_2(server: Server) -> None:
    ended = run(server.url, key="not-the-key")
    assert ended.returncode == 2
    assert "api_key" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "not-the-key" not in ended.stderr


def test_the_rules_are_listed() -> None:
    ended = run("--list", "--only", "submit")
    assert ended.returncode == 0
    assert "submit.repeat-runs-once" in ended.stdout


@pytest.mark.skipif("LOOPS_LONG_CONFORMANCE" not in os.environ, reason="LOOPS_LONG_CONFORMANCE=1")
@pytest.mark.parametrize("backend", MODELS)
@pytest.mark.timeout(1200)
def test_every_rule_is_kept_by_every_backend(backend: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with Server(tmp_path / "data", backend=backend, base_models=[MODELS[backend]]) as server:
        ended = run(server.url, "--profile", "loops", "--json", str(path))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = ConformanceReport.model_validate_json(path.read_text())
    num_asked = len(report.rules) - report.counts[Outcome.NOT_OFFERED]
    assert num_asked >= 150
    if backend == "mock":
        assert report.seconds * 150 / num_asked < 60
