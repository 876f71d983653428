"""Rows of figures, with the bounds that they should keep: as lines of JSON, or as tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, final

if TYPE_CHECKING:
    from rich.console import Console

_HEADINGS: Final[Mapping[str, str]] = {
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "cpu_p50_ms": "CPU ms, p50",
    "cpu_p99_ms": "CPU ms, p99",
    "x_p50": "x floor, p50",
    "x_p99": "x floor, p99",
    "x_pair": "x floor, pairs",
    "encode_ms": "encode ms",
    "decode_ms": "decode ms",
    "mib": "MiB",
    "growth_mib": "grew by MiB",
    "operations_per_s": "operations / s",
    "times_faster": "times faster",
    "share_of_bytes": "share of bytes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What a figure should be.

    Attributes:
        figure: its name in the row.
        limit: the best value that still will not do, or the worst that will.
        kind: on which side of the limit the figure should be.
    """

    figure: str
    limit: float
    kind: Literal["at most", "at least"] = "at most"

    def is_kept(self, value: float) -> bool:
        """Tell whether a figure is on the right side."""
        return value <= self.limit if self.kind == "at most" else value >= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was measured of one contender.

    Attributes:
        comparison: the comparison it is part of.
        what: who or what was measured.
        figures: the figures by name; none where nothing could be measured.
        bounds: what they should be.
        note: what a reader has to know, such as why there are none.
    """

    comparison: str
    what: str
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    bounds: tuple[Bound, ...] = ()
    note: str = ""

    def to_json(self) -> str:
        """Return the row as one line of JSON."""
        bounds = [
            {
                "figure": bound.figure,
                bound.kind.replace(" ", "_"): bound.limit,
                "kept": bound.is_kept(self.figures[bound.figure]),
            }
            for bound in self.bounds
            if bound.figure in self.figures
        ]
        figures = {name: float(f"{value:.4g}") for name, value in self.figures.items()}
        return json.dumps(
            {
                "comparison": self.comparison,
                "what": self.what,
                **figures,
                **({"bounds": bounds} if bounds else {}),
                **({"note": self.note} if self.note else {}),
            }
        )

    def remarks(self) -> list[str]:
        """Return, for a reader, which bounds are kept and which are missed, and the note."""
        judged: list[str] = []
        for bound in self.bounds:
            value = self.figures.get(bound.figure)
            if value is not None:
                heading = _HEADINGS.get(bound.figure, bound.figure)
                verdict = "kept" if bound.is_kept(value) else f"MISSED with {_shown(value)}"
                judged.append(f"{heading} {bound.kind} {bound.limit:g}: {verdict}")
        return [*judged, *([self.note] if self.note else [])]


@final
class Report:
    """Prints rows as they come: a table a comparison, or a line of JSON a row."""

    def __init__(self, *, as_json: bool) -> None:
        """Say how to print."""
        from rich.console import Console

        self._as_json = as_json
        self._console: Console = Console(soft_wrap=as_json)

    def add(self, title: str, rows: Iterable[Row]) -> None:
        """Print the rows of one comparison: JSON as they come, a table once all are there."""
        if self._as_json:
            for row in rows:
                self._console.print(row.to_json(), markup=False, highlight=False)
            return
        kept = list(rows)
        from rich.table import Table

        figures = list(dict.fromkeys(name for row in kept for name in row.figures))
        table = Table()
        table.add_column("", overflow="fold")
        for name in figures:
            table.add_column(_HEADINGS.get(name, name), justify="right")
        for row in kept:
            table.add_row(row.what, *(_shown(row.figures.get(name)) for name in figures))
        self.say(f"\n{title}")
        self._console.print(table)
        for row in kept:
            for remark in row.remarks():
                self.say(f"  {row.what}: {remark}")

    def say(self, text: str) -> None:
        """Print a sentence for people; nothing among lines of JSON."""
        if not self._as_json:
            self._console.print(text, markup=False, highlight=False)


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
