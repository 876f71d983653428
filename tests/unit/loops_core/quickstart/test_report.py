"""What is written down is complete, and a loss that did not fall is called so."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from loops_core.quickstart.report import make_loss_figures, write_record, write_samples
from loops_core.quickstart.sampling import Comparison
from loops_core.quickstart.training import StepRecord


def make_record(step: int, loss: float) -> StepRecord:
    return StepRecord(
        step=step,
        loss=loss,
        grad_norm=1.0,
        learning_rate=0.1,
        active_tokens=5,
        tokens=9,
        seconds=0.5,
        tokens_per_second=18.0,
    )


def test_a_step_is_one_json_object_on_one_line() -> None:
    file = io.StringIO()
    write_record(file, make_record(1, 2.0))
    write_record(file, make_record(2, 1.0))
    rows = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [row["loss"] for row in rows] == [2.0, 1.0]
    assert {"step", "grad_norm", "learning_rate", "active_tokens", "tokens_per_second"} <= set(
        rows[0]
    )


def test_the_figures_are_the_first_loss_and_the_mean_of_the_last_five() -> None:
    losses = [8.0, 100.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    figures = make_loss_figures([make_record(i, loss) for i, loss in enumerate(losses)])
    assert (figures.first, figures.last, figures.ratio) == (8.0, 3.0, 0.375)
    assert figures.fell


@pytest.mark.parametrize("last", [2.0, 4.0, float("nan")])
def test_half_of_the_first_loss_is_not_under_half(last: float) -> None:
    assert not make_loss_figures([make_record(1, 4.0), *[make_record(2, last)] * 5]).fell


def test_samples_keep_letters_of_every_language(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    comparison = Comparison(prompt="Día?", taught=None, before="", after="sí")
    write_samples(path, [comparison, comparison])
    text = path.read_text("utf-8")
    assert "Día?" in text
    assert [json.loads(line)["after"] for line in text.splitlines()] == ["sí", "sí"]
