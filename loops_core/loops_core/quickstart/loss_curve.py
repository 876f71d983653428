"""The loss over the steps, as a picture."""
# pyright: reportUnknownMemberType=false
# Matplotlib's drawing methods take untyped keyword arguments.

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from loops_core.errors import UnsupportedError
from loops_core.quickstart.report import WANTED_RATIO
from loops_core.quickstart.training import StepRecord

NUM_WINDOWS: Final = 30
"""The smoothed line takes the mean of a thirtieth of the steps, of three at least."""


def check_plotting() -> None:
    """Raise UnsupportedError where the loss curve cannot be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UnsupportedError(
            "the loss curve needs matplotlib, which is not installed:"
            " pip install 'loops-core[plot]'"
        )


def write_loss_curve(path: Path, records: Sequence[StepRecord], *, title: str) -> None:
    """Write the loss over the steps as a PNG, with the half of the first loss as a mark."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [record.step for record in records]
    losses = [record.loss for record in records]
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(steps, losses, color="#9db7d5", linewidth=1, label="each step")
    width = max(3, len(losses) // NUM_WINDOWS)
    smoothed = smooth(losses, width=width)
    axes.plot(steps, smoothed, color="#1f4e79", linewidth=2, label=f"mean of {width} steps")
    half = WANTED_RATIO * losses[0]
    axes.axhline(half, color="#b03a2e", linestyle="--", linewidth=1, label="half of the first loss")
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.set_xlim(1, max(2, steps[-1]))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path)


def smooth(losses: Sequence[float], *, width: int) -> list[float]:
    """Return at each place the mean of the losses around it, of fewer at the ends.

    >>> smooth([6.0, 3.0, 0.0], width=3)
    [4.5, 3.0, 1.5]
    """
    before, after = width // 2, width - width // 2
    windows = [losses[max(0, at - before) : at + after] for at in range(len(losses))]
    return [sum(window) / len(window) for window in windows]
