"""What the user sees while the quickstart runs: a live bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

from loops_core.quickstart.sampling import Comparison
from loops_core.quickstart.training import StepRecord

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

PROGRESS_LOGGER: Final = "loops.progress"
"""Plugins log to this name, at level INFO, what a waiting user should know."""

NUM_PLAIN_LINES: Final = 12


@final
class Display:
    """Writes to a rich console."""

    def __init__(self, console: Console) -> None:
        """Use the console; whether it is a terminal decides the form."""
        self._console = console

    def say(self, text: str) -> None:
        """Show a line; it is not cut, and nothing in it is markup."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def listening(self) -> Generator[None]:
        """Show what plugins report while the block runs, such as a download."""
        logger = logging.getLogger(PROGRESS_LOGGER)
        handler, level = _SayHandler(self), logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)

    @contextmanager
    def steps(self, num_steps: int) -> Generator[StepDisplay]:
        """Show the steps of a training while the block runs."""
        if not self._console.is_terminal:
            yield StepDisplay(self, num_steps, None)
            return
        with _make_progress(self._console) as progress:
            yield StepDisplay(self, num_steps, progress)

    def samples(self, comparisons: Sequence[Comparison]) -> None:
        """Show what the model said before and after."""
        for comparison in comparisons:
            note = "" if comparison.taught is not None else "  (not in the training data)"
            self.say(f"  prompt  {comparison.prompt}{note}")
            self.say(f"  before  {_one_line(comparison.before)}")
            self.say(f"  after   {_one_line(comparison.after)}")
            self.say("")

    def table(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Show names and values; no value is cut."""
        from rich.table import Table
        from rich.text import Text

        if not self._console.is_terminal:
            width = max(len(name) for name, _ in rows)
            self.say(title)
            for name, value in rows:
                self.say(f"  {name:<{width}}  {value}")
            return
        table = Table(title=title, show_header=False, title_justify="left")
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, Text(value))
        self._console.print(table)


@final
class StepDisplay:
    """Shows the steps of one training."""

    def __init__(self, display: Display, num_steps: int, progress: Progress | None) -> None:
        """Use the bar if there is one, else lines of the display."""
        self._display = display
        self._num_steps = num_steps
        self._progress = progress
        self._task: TaskID | None = None
        if progress is not None:
            self._task = progress.add_task("train", total=num_steps, loss="-", speed="compiling")

    def show(self, record: StepRecord, *, done: int) -> None:
        """Show a step; `done` counts those of this training."""
        speed = f"{record.tokens_per_second:,.0f} tokens/s"
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task, completed=done, loss=f"{record.loss:.3f}", speed=speed
            )
            return
        every = max(1, self._num_steps // NUM_PLAIN_LINES)
        if done == 1 or done % every == 0 or done == self._num_steps:
            self._display.say(f"  step {record.step:>4}  loss {record.loss:.3f}  {speed}")


@final
class _SayHandler(logging.Handler):
    """Passes log records on to a display."""

    def __init__(self, display: Display) -> None:
        super().__init__(logging.INFO)
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        self._display.say(f"  {record.getMessage()}")


def _make_progress(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        console=console,
    )


def _one_line(text: str, limit: int = 140) -> str:
    r"""Return the text on one line, cut to `limit` characters; "(nothing)" if empty.

    Whatever a terminal could take for a command is shown as a dot.

    >>> _one_line("a\n  b\x1b[2J")
    'a b.[2J'
    """
    line = "".join(c if c.isprintable() else "." for c in " ".join(text.split()))
    if not line:
        return "(nothing)"
    return line if len(line) <= limit else line[: limit - 3] + "..."
