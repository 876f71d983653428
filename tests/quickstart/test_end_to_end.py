"""The main job as a user runs it, on the built-in model and a handful of examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loops_core.quickstart.command import run_command
from loops_core.quickstart.settings import make_settings

NUM_STEPS = 60

# All of one padded length, so that one training shape is compiled.
EXAMPLES = [
    {"instruction": "What is a bit?", "response": "Copy. A bit is a zero or a one. Over."},
    {"instruction": "What is a byte?", "response": "Copy. A byte is eight bits. Over."},
    {"instruction": "What is ice?", "response": "Copy. Ice is frozen water. Over."},
    {"instruction": "What is the Sun?", "response": "Copy. The Sun is a star. Over."},
]


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


@pytest.mark.slow
def test_the_job_teaches_saves_resumes_and_writes_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOOPS_CACHE_DIR", str(tmp_path / "cache"))
    data = tmp_path / "examples.jsonl"
    data.write_text("\n".join(json.dumps(example) for example in EXAMPLES))
    settings = make_settings(
        base_url="inproc:jax?data_dir=:memory:",
        steps=NUM_STEPS,
        batch_size=4,
        data=data,
        output=tmp_path / "out",
    )

    exit_code = run_command(settings)
    shown = capsys.readouterr()

    assert exit_code == 0, shown.err
    assert "checkpoint resumes     bit for bit (3 steps compared)" in shown.out
    rows = read_lines(tmp_path / "out/metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, NUM_STEPS + 1))
    assert sum(row["loss"] for row in rows[-5:]) / 5 < rows[0]["loss"] / 2
    answers = read_lines(tmp_path / "out/samples.jsonl")
    taught = [answer for answer in answers if answer["taught"] is not None]
    assert [answer["after"] for answer in taught] == [answer["taught"] for answer in taught]
    assert all(answer["before"] != answer["after"] for answer in answers)
    adapter = {path.name for path in (tmp_path / "out/adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= adapter
    assert (tmp_path / "out/loss.png").read_bytes().startswith(b"\x89PNG")
