"""What a world costs stays in proportion; `loops bench simulation` measures it in full."""

from __future__ import annotations

import json

import pytest

from loops_mock.simulation import bench


@pytest.mark.slow
def test_an_hour_of_training_takes_seconds() -> None:
    row = bench.measure("hour", bench.hour, 10_000, durations=bench.LARGE)
    assert row.virtual_s > 3500.0
    assert row.cpu_s < 10.0  # about 1 s on a machine that has nothing else to do


@pytest.mark.slow
def test_every_comparison_runs_and_prints_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    bench.run(operations=40, as_json=True)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == ["sequential", "pipelined", "mock", "faults", "hour"]
    assert all(len(row["digest"]) == 64 for row in rows)
