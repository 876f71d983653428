"""Without a terminal the display writes plain, whole lines; what plugins report is among them."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from loops_core.quickstart.display import PROGRESS_LOGGER, Display
from loops_core.quickstart.sampling import Comparison
from loops_core.quickstart.training import StepRecord


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def display(screen: io.StringIO) -> Display:
    return Display(Console(file=screen, width=40))


def make_record(step: int) -> StepRecord:
    return StepRecord(
        step=step,
        loss=1.0 / step,
        grad_norm=1.0,
        learning_rate=0.1,
        active_tokens=1,
        tokens=1,
        seconds=1.0,
        tokens_per_second=1234.5,
    )


def test_nothing_is_cut_and_brackets_stay(display: Display, screen: io.StringIO) -> None:
    display.say("[bold] " + "x" * 100)
    assert screen.getvalue() == "[bold] " + "x" * 100 + "\n"


def test_steps_are_shown_now_and_then_with_first_and_last(
    display: Display, screen: io.StringIO
) -> None:
    with display.steps(100) as bar:
        for done in range(1, 101):
            bar.show(make_record(done), done=done)
    lines = screen.getvalue().splitlines()
    assert lines[0] == "  step    1  loss 1.000  1,234 tokens/s"
    assert lines[-1].startswith("  step  100")
    assert len(lines) < 20


def test_what_plugins_report_is_shown_while_listening_only(
    display: Display, screen: io.StringIO
) -> None:
    with display.listening():
        logging.getLogger(PROGRESS_LOGGER).info("fetching %d MB", 93)
    logging.getLogger(PROGRESS_LOGGER).info("unheard")
    assert screen.getvalue() == "  fetching 93 MB\n"


def test_a_prompt_that_was_not_taught_is_marked(display: Display, screen: io.StringIO) -> None:
    known = Comparison(prompt="a", taught="b", before="", after="x\ny")
    new = Comparison(prompt="c", taught=None, before="d", after="e" * 500)
    display.samples([known, new])
    text = screen.getvalue()
    assert "prompt  a\n" in text
    assert "before  (nothing)\n" in text
    assert "after   x y\n" in text
    assert "prompt  c  (not in the training data)\n" in text
    assert "eee...\n" in text


def test_a_table_shows_whole_values(display: Display, screen: io.StringIO) -> None:
    display.table("title", [("a", "v" * 60), ("long name", "w")])
    assert screen.getvalue() == f"title\n  a          {'v' * 60}\n  long name  w\n"


def test_in_a_terminal_there_is_a_bar(screen: io.StringIO) -> None:
    display = Display(Console(file=screen, force_terminal=True, width=100))
    with display.steps(2) as bar:
        bar.show(make_record(1), done=1)
        bar.show(make_record(2), done=2)
    assert "2/2" in screen.getvalue()
    assert "loss 0.500" in screen.getvalue()
