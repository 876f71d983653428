"""What a report promises: a row is one line of JSON, and a missed bound is said."""

from __future__ import annotations

import json

import pytest

from loops_transport_http.bench.report import Bound, Report, Row

ROW = Row(
    comparison="overhead",
    what="ours",
    figures={"p50_ms": 1.23456, "x_p50": 1.6, "x_p99": 1.9, "times_faster": 31.0},
    bounds=(
        Bound(figure="x_p50", limit=1.5),
        Bound(figure="x_p99", limit=2.0),
        Bound(figure="times_faster", limit=30.0, kind="at least"),
        Bound(figure="not_measured", limit=1.0),
    ),
    note="a remark",
)


def test_a_row_is_one_line_of_json_with_its_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(as_json=True)
    report.say("for people only")
    report.add("a title", [ROW, Row(comparison="overhead", what="another")])

    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first) == {
        "comparison": "overhead",
        "what": "ours",
        "p50_ms": 1.235,
        "x_p50": 1.6,
        "x_p99": 1.9,
        "times_faster": 31.0,
        "bounds": [
            {"figure": "x_p50", "at_most": 1.5, "kept": False},
            {"figure": "x_p99", "at_most": 2.0, "kept": True},
            {"figure": "times_faster", "at_least": 30.0, "kept": True},
        ],
        "note": "a remark",
    }
    assert json.loads(second) == {"comparison": "overhead", "what": "another"}


def test_a_table_says_which_bound_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    Report(as_json=False).add("a title", [ROW])

    shown = " ".join(capsys.readouterr().out.split())
    assert "a title" in shown
    assert "x floor, p50 at most 1.5: MISSED with 1.6" in shown
    assert "x floor, p99 at most 2: kept" in shown
    assert "ours: a remark" in shown
