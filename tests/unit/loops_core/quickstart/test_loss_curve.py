"""The loss curve is a picture that an image reader opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from loops_core.quickstart.loss_curve import write_loss_curve
from loops_core.quickstart.training import StepRecord


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", [1, 30])
def test_the_curve_is_a_png(num_steps: int, tmp_path: Path) -> None:
    records = [
        StepRecord(
            step=step,
            loss=6.0 / step,
            grad_norm=1.0,
            learning_rate=0.1,
            active_tokens=1,
            tokens=1,
            seconds=1.0,
            tokens_per_second=1.0,
        )
        for step in range(1, num_steps + 1)
    ]
    write_loss_curve(tmp_path / "loss.png", records, title="loss")
    head = (tmp_path / "loss.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(head[16:20], "big") == 960
