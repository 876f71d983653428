"""One run of `loops conformance`, from its options to its reports."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console

from loops_core.errors import UsageError
from loops_mock.conformance.document import Asked, ConformanceReport, make_report
from loops_mock.conformance.page import write_page
from loops_mock.conformance.reaching import check_reachable, check_still_there, open_target
from loops_mock.conformance.terminal import ProgressView, show_report, show_rules
from loops_mock.contract.profiles import find_profile, select_rules
from loops_mock.contract.rule import Rule, all_rules
from loops_mock.contract.running import Outcome, RuleResult, run_rules

_LOUD: Final = ("httpx", "httpcore", "loops_core", "loops_transport_http")
"""Loggers that would write between the lines of the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the command was asked for; fields as its options."""

    url: str
    profile: str = "loops-0.32"
    api_key: str | None = field(default=None, repr=False)
    base_model: str | None = None
    seed: int = 0
    only: tuple[str, ...] = ()
    jobs: int = 4
    rule_timeout_s: float = 120.0
    json_path: Path | None = None
    html_path: Path | None = None


def run_job(job: Job, *, console: Console | None = None) -> bool:
    """Run the rules, report them, and return whether the service keeps them.

    Raises:
        UsageError: an option is mistaken, or the service cannot be asked.
    """
    shown = console or Console()
    asked = Asked(profile=find_profile(job.profile), seed=job.seed, base_model=job.base_model)
    rules = _rules_of(job.profile, job.only)
    _check_writable(job.json_path, "json")
    _check_writable(job.html_path, "html")
    with _quiet():
        report = _report(job, asked, rules, shown)
    show_report(shown, report)
    if job.json_path is not None:
        job.json_path.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if job.html_path is not None:
        job.html_path.write_text(write_page(report), encoding="utf-8")
    return report.verdict == "kept"


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Keep what a service in this process logs of bad calls out of the report."""
    levels = {name: logging.getLogger(name).level for name in _LOUD}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _report(job: Job, asked: Asked, rules: tuple[Rule, ...], shown: Console) -> ConformanceReport:
    target = open_target(job.url, api_key=job.api_key, base_model=job.base_model)
    try:
        check_reachable(target)
        shown.print(f"{len(rules)} rules for {target.shown_url}, base model {target.base_model}")
        with ProgressView(shown, len(rules)) as view:

            def told(result: RuleResult) -> None:
                view.told(result)
                if result.outcome is Outcome.ERROR:
                    check_still_there(target)  # else each rule would wait for a dead service

            found = run_rules(
                target.subject,
                rules,
                seed=job.seed,
                on_result=told,
                timeout_s=job.rule_timeout_s,
                num_at_once=job.jobs,
            )
        return make_report(target, asked, found)
    finally:
        target.close()


def list_profile(profile: str, only: Iterable[str], *, console: Console | None = None) -> None:
    """Print the rules of a profile.

    Raises:
        UsageError: there is no such profile, or no such rule.
    """
    show_rules(console or Console(), _rules_of(profile, only))


def _rules_of(profile: str, only: Iterable[str]) -> tuple[Rule, ...]:
    """Return the rules that are asked: those of the profile, or any that are named."""
    wanted = tuple(only)
    return (
        select_rules(all_rules(), wanted) if wanted else find_profile(profile).select(all_rules())
    )


def _check_writable(path: Path | None, option: str) -> None:
    """Refuse a report's path now, not after all rules have run."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise UsageError(
            f"--{option} {path}: expected a file in a directory that exists", field=option
        )
