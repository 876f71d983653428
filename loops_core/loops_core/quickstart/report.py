"""What a run leaves behind as JSON: its metrics, its samples, and how far the loss fell."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO

from loops_core.quickstart.sampling import Comparison
from loops_core.quickstart.training import StepRecord

NUM_LAST: Final = 5
WANTED_RATIO: Final = 0.5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LossFigures:
    """How far the loss fell.

    Attributes:
        first: the loss of the first step.
        last: the mean loss of the last five steps.
    """

    first: float
    last: float

    @property
    def ratio(self) -> float:
        """Return last / first."""
        return self.last / self.first

    @property
    def fell(self) -> bool:
        """Tell whether the last losses are under half of the first; False where one is NaN."""
        return self.last < WANTED_RATIO * self.first


def make_loss_figures(records: Sequence[StepRecord]) -> LossFigures:
    """Return the figures of a training of at least one step."""
    last = [record.loss for record in records[-NUM_LAST:]]
    return LossFigures(first=records[0].loss, last=sum(last) / len(last))


def write_record(file: TextIO, record: StepRecord) -> None:
    """Append one step to a metrics file, at once: a run that is killed has kept its metrics."""
    file.write(json.dumps(dataclasses.asdict(record)) + "\n")
    file.flush()


def write_samples(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write the prompts and their answers, one JSON object a line."""
    lines = [json.dumps(dataclasses.asdict(c), ensure_ascii=False) + "\n" for c in comparisons]
    path.write_text("".join(lines), encoding="utf-8")
