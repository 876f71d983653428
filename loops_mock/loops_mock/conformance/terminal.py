"""The report for a reader at a terminal: progress while it runs, then what was found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, final

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from loops_mock.conformance.document import CheckedRule, ConformanceReport
from loops_mock.contract.rule import Rule
from loops_mock.contract.running import Outcome, RuleResult

_MOST_NAMED: Final = 6

_MARKS: Final = {
    Outcome.PASSED: "[green]passed[/green]",
    Outcome.FAILED: "[bold red]FAILED[/bold red]",
    Outcome.ERROR: "[bold red]ERROR[/bold red]",
    Outcome.NOT_OFFERED: "[yellow]not offered[/yellow]",
}


@final
class ProgressView:
    """Shows how far the rules are; on no terminal only those that were not kept."""

    def __init__(self, console: Console, num_rules: int) -> None:
        """Start at no rule."""
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._progress.add_task("rules", total=num_rules)
        self._live = Live(Group(self._progress), console=console, transient=True)

    def __enter__(self) -> ProgressView:
        """Show it."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        if self._console.is_terminal:
            self._live.stop()

    def told(self, result: RuleResult) -> None:
        """Go one rule further."""
        if not result.is_kept:
            rule, message = escape(result.rule.id), escape(result.message)
            self._console.print(f"{_MARKS[result.outcome]} {rule}: {message}", soft_wrap=True)
        self._progress.update(self._task, advance=1, description=result.rule.id[:40].ljust(40))


def show_report(console: Console, report: ConformanceReport) -> None:
    """Print what was found: a line a subject, each broken rule whole, what is unsupported."""
    console.print(_subjects(report.rules))
    for each in report.broken():
        _show_broken(console, each)
    if report.unsupported:
        console.print("\n[bold]Not offered[/bold] by this service, so not asked:")
        for entry in report.unsupported:
            what, rules = escape(entry.feature), escape(_few(entry.rules))
            console.print(f"  {what} [dim]({rules})[/dim]", soft_wrap=True)
    counts = ", ".join(
        f"{num} {outcome.value.replace('_', ' ')}" for outcome, num in report.counts.items() if num
    )
    verdict = (
        f"[bold green]{escape(report.url)} keeps the contract[/bold green]"
        if report.verdict == "kept"
        else f"[bold red]{escape(report.url)} does not keep the contract[/bold red]"
    )
    console.print(f"\n{verdict} (profile {report.profile}, seed {report.seed}).", soft_wrap=True)
    console.print(f"{len(report.rules)} rules in {report.seconds:.1f} s: {counts}.")


def show_rules(console: Console, rules: Iterable[Rule]) -> None:
    """Print a line for each rule: its id, its section, what it needs, its promise."""
    table = Table(box=None, pad_edge=False)
    for name in ("rule", "section", "needs", "promise"):
        table.add_column(name, no_wrap=name == "rule", overflow="fold")
    for rule in rules:
        table.add_row(rule.id, rule.section, " ".join(sorted(rule.needs)), escape(rule.title))
    console.print(table)


def _subjects(rules: Iterable[CheckedRule]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("subject")
    for name in ("passed", "failed", "error", "not offered", "seconds"):
        table.add_column(name, justify="right")
    by_subject: dict[str, list[CheckedRule]] = {}
    for rule in rules:
        by_subject.setdefault(rule.id.partition(".")[0], []).append(rule)
    for subject, found in sorted(by_subject.items()):
        counts = {outcome: sum(r.outcome is outcome for r in found) for outcome in Outcome}
        bad = {outcome: counts[outcome] for outcome in (Outcome.FAILED, Outcome.ERROR)}
        table.add_row(
            subject,
            str(counts[Outcome.PASSED] or ""),
            *(f"[bold red]{num}[/bold red]" if num else "" for num in bad.values()),
            str(counts[Outcome.NOT_OFFERED] or ""),
            f"{sum(rule.seconds for rule in found):.2f}",
        )
    return table


def _few(ids: Sequence[str]) -> str:
    """Return some ids, and how many more there are; the JSON report has them all."""
    more = len(ids) - _MOST_NAMED
    return ", ".join(ids[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _show_broken(console: Console, rule: CheckedRule) -> None:
    mark = _MARKS[rule.outcome]
    where = f"[dim](docs/protocol.md, {rule.section})[/dim]"
    lines = [
        f"\n{mark} [bold]{escape(rule.id)}[/bold] {where}",
        f"  promise:  {escape(rule.title)}",
        f"  expected: {escape(rule.message)}",
        *(f"  seen:     {escape(name)} = {escape(text)}" for name, text in rule.seen.items()),
        "  calls:" if rule.calls else "  calls:    none",
        *(
            f"    {number}. {escape(made.asked)}\n       -> {escape(made.answered)}"
            for number, made in enumerate(rule.calls, 1)
        ),
        f"  repeat:   {escape(rule.repeat)}",
    ]
    console.print("\n".join(lines), soft_wrap=True, highlight=False)
