"""The document says what was found, in a format with a name, and holds no secret."""

from __future__ import annotations

import json

from tests.unit.loops_mock.conformance.conftest import SECRET

from loops_mock.conformance.document import FORMAT, ConformanceReport
from loops_mock.contract.running import Outcome


def test_it_can_be_read_back_and_names_its_format(report: ConformanceReport) -> None:
    text = report.model_dump_json()
    assert ConformanceReport.model_validate_json(text) == report
    assert json.loads(text)["format"] == FORMAT == "loops-conformance/1"


def test_it_counts_every_outcome(report: ConformanceReport) -> None:
    assert report.counts == dict.fromkeys(Outcome, 1)
    assert report.verdict == "broken"
    assert [rule.id for rule in report.broken()] == ["toy.fails", "toy.dies"]


def test_it_lists_what_is_unsupported_with_the_rules_that_were_not_asked(
    report: ConformanceReport,
) -> None:
    (entry,) = report.unsupported
    assert (entry.feature, entry.rules) == ("http", ["toy.needs"])


def test_a_failed_rule_has_its_calls_and_the_command_that_repeats_it(
    report: ConformanceReport,
) -> None:
    failed = report.broken()[0]
    assert failed.calls[-1].asked.startswith("retrieve(")
    assert failed.repeat == (
        "loops conformance 'inproc:mock?data_dir=:memory:' --only toy.fails --seed 5 "
        "--base-model mock-tiny --profile loops"
    )


def test_no_secret_is_in_it(report: ConformanceReport) -> None:
    assert SECRET not in report.model_dump_json()
