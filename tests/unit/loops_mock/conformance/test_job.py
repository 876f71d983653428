"""A run of the command: what it writes, and what it says where it cannot run."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
from rich.console import Console
from tests.unit.loops_mock.conformance.conftest import SECRET

from loops_core.errors import UsageError
from loops_mock.conformance.document import ConformanceReport
from loops_mock.conformance.job import Job, list_profile, run_job
from loops_mock.conformance.reaching import check_installed
from loops_mock.conformance.terminal import show_report
from loops_mock.contract.running import Outcome

MOCK = "inproc:mock?data_dir=:memory:"


def run(job: Job) -> tuple[bool, str]:
    """Return whether the service keeps the rules, and what was printed."""
    out = io.StringIO()
    return run_job(job, console=Console(file=out, width=100)), out.getvalue()


def refusal(job: Job) -> str:
    with pytest.raises(UsageError) as caught:
        run(job)
    return str(caught.value)


def test_a_run_prints_what_it_found_and_writes_both_reports(tmp_path: Path) -> None:
    json_path, html_path = tmp_path / "r.json", tmp_path / "r.html"
    only = ("submit.empty-data-is-refused", "submit.keyless-is-accepted")
    is_kept, text = run(Job(url=MOCK, only=only, json_path=json_path, html_path=html_path))
    assert is_kept
    assert "2 rules in" in text
    assert "keeps the contract" in text
    report = ConformanceReport.model_validate_json(json_path.read_text())
    assert {rule.id: rule.outcome for rule in report.rules} == {
        only[0]: Outcome.PASSED,
        only[1]: Outcome.NOT_OFFERED,
    }
    assert only[0] in html_path.read_text()


def test_a_run_leaves_the_logging_of_its_process_as_it_was() -> None:
    log = logging.getLogger("loops_core")
    before = log.level
    run(Job(url=MOCK, only=("submit.empty-data-is-refused",)))
    assert log.level == before


def test_a_broken_rule_is_printed_with_all_that_is_known(report: ConformanceReport) -> None:
    out = io.StringIO()
    show_report(Console(file=out, width=80), report)
    text = out.getvalue()
    for part in (
        "FAILED toy.fails (docs/protocol.md, 2.7)",
        "promise:  A toy that fails",
        "expected: <b>no</b> ***",
        "seen:     text = '<script>***</script>'",
        "create_trainer(",
        "repeat:   loops conformance",
        "ERROR toy.dies",
        "nobody expected [this]",
        "http (toy.needs)",
    ):
        assert part in text
    assert SECRET not in text


def test_rules_are_listed_without_asking_anybody() -> None:
    out = io.StringIO()
    list_profile("loops-0.32", ["submit"], console=Console(file=out, width=200))
    assert "submit.repeat-runs-once" in out.getvalue()
    assert "retrieve." not in out.getvalue()


def test_nobody_at_the_address_is_said_so() -> None:
    text = refusal(Job(url="http://127.0.0.1:9", api_key=SECRET))
    assert text.startswith("http://127.0.0.1:9 does not answer")
    assert SECRET not in text


def test_somebody_else_at_the_address_is_said_so(anybody: str) -> None:
    assert "not as a Loops service" in refusal(Job(url=anybody))
    assert "api_key" in refusal(Job(url=f"{anybody}/locked"))


def test_a_service_that_only_seems_one_is_broken(anybody: str) -> None:
    is_kept, text = run(Job(url=f"{anybody}/sure", only=("sessions.created-without-a-body",)))
    assert not is_kept
    assert "FAILED sessions.created-without-a-body" in text


def test_a_service_that_goes_away_ends_the_run(anybody: str) -> None:
    only = ("sessions.created-without-a-body", "sessions.each-create-is-new")
    text = refusal(Job(url=f"{anybody}/dying", base_model="m", only=only))
    assert "has stopped answering while rules were running" in text


@pytest.mark.parametrize("url", ["", "localhost", "http://", ":8000"])
def test_what_is_no_url_is_refused(url: str) -> None:
    assert "expected http://HOST:PORT" in refusal(Job(url=url))


def test_mistaken_options_are_refused_before_anything_runs(tmp_path: Path) -> None:
    assert "loops-0.32" in refusal(Job(url=MOCK, profile="no-such-profile"))
    assert "no-such-rule" in refusal(Job(url=MOCK, only=("no-such-rule",)))
    assert "--json" in refusal(Job(url=MOCK, json_path=tmp_path))
    assert "--html" in refusal(Job(url=MOCK, html_path=tmp_path / "nowhere" / "r.html"))


def test_what_is_not_installed_is_named_with_its_extra() -> None:
    with pytest.raises(UsageError, match=r"httpx.*'loops-mock\[conformance\]'"):
        check_installed("http://host", find=lambda name: None if name == "httpx" else name)
    check_installed("inproc:mock", find=lambda _: None)
    assert "no installed plugin" in refusal(Job(url="gopher://nobody"))


def test_a_key_in_the_url_is_refused_and_not_repeated() -> None:
    text = refusal(Job(url=f"http://user:{SECRET}@127.0.0.1:9"))
    assert "api_key" in text
    assert SECRET not in text
