"""What `loops bench protocol` promises: every comparison runs, and prints its rows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from loops_core.errors import UsageError
from loops_transport_http.bench import instant
from loops_transport_http.bench.protocol import COMPARISONS, run
from loops_transport_http.bench.published import find_python

NUM_ROWS = {
    "overhead": 5,
    "served": 6,
    "inprocess": 3,
    "cpu": 4,
    "encoding": 4,
    "crowd": 9,
    "throughput": 4,
}
"""How many rows there are without a published client; with one there may be one more or less."""


@pytest.mark.slow
def test_the_quick_run_prints_a_row_for_everything() -> None:
    command = [sys.executable, "-m", "loops_core.cli", "bench", "protocol", "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    rows: defaultdict[str, list[dict[str, object]]] = defaultdict(list)
    for line in done.stdout.splitlines():
        row = json.loads(line)
        rows[row["comparison"]].append(row)
        assert len(row) > 2, f"neither a figure nor a note: {row}"
    assert list(rows) == list(COMPARISONS) == list(NUM_ROWS)
    for name, found in rows.items():
        assert len(found) in (NUM_ROWS[name], NUM_ROWS[name] + (name == "encoding")), found
        assert len({row["what"] for row in found}) == len(found)


def test_a_comparison_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(UsageError, match=r"'speed'.*overhead, served, inprocess") as caught:
        run(only=("speed",), quick=True, as_json=True, sdk_python=None)
    assert caught.value.field == "only"


def test_an_interpreter_without_the_published_client_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--sdk-python .*no-python.*pip install baseten-loops"):
        find_python(tmp_path / "no-python")


def test_a_held_pass_waits_until_the_gate_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from loops_transport_http.bench.workload import TINY, make_data

    gate = tmp_path / "gate"
    monkeypatch.setenv(instant.GATE, str(gate))
    trainer = instant.InstantTrainer()
    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(
            lambda: trainer.forward(
                make_data(TINY), loss_fn="cross_entropy", loss_fn_config={instant.HOLD: True}
            )
        )
        assert not held.done()
        gate.touch()
        assert len(held.result(timeout=10).loss_fn_outputs) == 1
