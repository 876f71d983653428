"""A report with every outcome in it, from toy rules on the mock; a server that is none of ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Final

import pytest

from loops_core.errors import UsageError
from loops_mock.conformance.document import Asked, ConformanceReport, make_report
from loops_mock.contract.profiles import find_profile
from loops_mock.contract.rule import Check, Rule, expect
from loops_mock.contract.running import run_rules
from loops_mock.contract.subject import Subject
from loops_mock.contract.target import Target

SECRET: Final = "a-key-that-nobody-may-see"


def _fails(subject: Subject) -> None:
    subject.trainer().forward(subject.data()).result()
    expect(False, f"<b>no</b> {SECRET}", text=f"<script>{SECRET}</script>")


def _dies(_: Subject) -> None:
    raise UsageError(f"nobody expected [this] {SECRET}")


def _passes(_: Subject) -> None:
    """Keep the promise."""


def toy(name: str, check: Check, *needs: str) -> Rule:
    return Rule(
        id=f"toy.{name}",
        title=f"A toy that {name}",
        section="2.7",
        needs=frozenset(needs),
        check=check,
    )


@pytest.fixture(scope="session")
def report() -> ConformanceReport:
    rules = [
        toy("passes", _passes),
        toy("fails", _fails),
        toy("dies", _dies),
        toy("needs", _passes, "http"),
    ]
    with Target("inproc:mock?data_dir=:memory:", api_key=SECRET) as target:
        found = run_rules(target.subject, rules, seed=5)
        asked = Asked(profile=find_profile("loops"), seed=5, base_model="mock-tiny")
        return make_report(target, asked, found)


class _Anybody(BaseHTTPRequestHandler):
    """Answers every GET with what the path's name asks for, in JSON."""

    def do_GET(self) -> None:
        if self.path.startswith("/dying") and self.server.asked:  # type: ignore[attr-defined]  # ours
            self.close_connection = True
            return
        self.server.asked = self.path.startswith("/dying")  # type: ignore[attr-defined]  # ours
        is_known = self.path in ("/sure/v1/loops/capabilities", "/dying/v1/loops/capabilities")
        content = b'{"supported_models": [{"model_name": "m"}]}' if is_known else b"{}"
        status = 200 if is_known else 401 if self.path.startswith("/locked") else 404
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 - the server looks it up by this name

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is inherited
        del format, args


@pytest.fixture(scope="session")
def anybody() -> Iterator[str]:
    """Serve what is no Loops service; `/sure` says it is one, `/locked` wants a key.

    `/dying` says so once, and then hangs up.
    """
    server = HTTPServer(("127.0.0.1", 0), _Anybody)
    server.asked = False  # type: ignore[attr-defined]  # ours
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
