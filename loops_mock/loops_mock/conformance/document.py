"""The report as a document: what `--json` writes, and what the page and the terminal show.

The format has a name, `loops-conformance/1`. Fields may be added to it; one that changes its
meaning, or goes, raises the number.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from pydantic import BaseModel, Field

from loops_mock.contract.profiles import Profile
from loops_mock.contract.running import Outcome, Report, RuleResult
from loops_mock.contract.target import Target

FORMAT: Final = "loops-conformance/1"


class CallMade(BaseModel):
    """One call that a failed check made.

    Attributes:
        asked: what was asked.
        answered: what came back.
        seconds: how long it took.
    """

    asked: str
    answered: str
    seconds: float


class CheckedRule(BaseModel):
    """What came of one rule.

    Attributes:
        id: the rule, as docs/protocol.md has it.
        title: its promise.
        section: the number of its section on that page.
        needs: the features that it asks for.
        outcome: `passed`; `failed`; `not_offered`, the service lacks a feature; `error`, the check
            itself could not be finished.
        seconds: how long it took.
        message: what was expected, what is not offered, or what went wrong; empty if it passed.
        seen: what was there instead, as text by name.
        calls: the calls of a failed check with the fewest datums that still failed.
        repeat: the command that runs this rule alone again.
    """

    id: str
    title: str
    section: str
    needs: list[str]
    outcome: Outcome
    seconds: float
    message: str = ""
    seen: dict[str, str] = Field(default_factory=dict)
    calls: list[CallMade] = Field(default_factory=list[CallMade])
    repeat: str


class Unsupported(BaseModel):
    """A feature that the service lacks, with the rules that were not asked for it."""

    feature: str
    rules: list[str]


class ConformanceReport(BaseModel):
    """What `loops conformance` found.

    Attributes:
        format: `loops-conformance/1`.
        verdict: `kept` if no rule failed and no check ended with an error, else `broken`.
        url: the service, without secrets.
        profile: the profile that it was held to.
        base_model: the model that was trained.
        seed: of all random numbers; the same seed asks the same.
        loops_version: the version of the rules.
        started_at: when, with a time zone.
        seconds: how long it took.
        counts: how many rules had each outcome.
        unsupported: what the service lacks.
        rules: one entry a rule, in the order in which they ran.
    """

    format: Literal["loops-conformance/1"] = FORMAT
    verdict: Literal["kept", "broken"]
    url: str
    profile: str
    base_model: str
    seed: int
    loops_version: str
    started_at: datetime
    seconds: float
    counts: dict[Outcome, int]
    unsupported: list[Unsupported]
    rules: list[CheckedRule]

    def broken(self) -> list[CheckedRule]:
        """Return the rules that speak against the service."""
        return [each for each in self.rules if each.outcome in (Outcome.FAILED, Outcome.ERROR)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a run of `loops conformance` was asked for.

    Attributes:
        profile: the profile.
        seed: of all random numbers.
        base_model: the model that was named; None = the service's first.
        started_at: when it started.
    """

    profile: Profile
    seed: int
    base_model: str | None = None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))


def make_report(target: Target, asked: Asked, report: Report) -> ConformanceReport:
    """Return the document about a finished run."""
    from loops_core import __version__

    rules = [to_rule(result, repeat_command(target, asked, result)) for result in report.results]
    return ConformanceReport(
        verdict="kept" if report.is_kept else "broken",
        url=target.shown_url,
        profile=asked.profile.name,
        base_model=target.base_model,
        seed=asked.seed,
        loops_version=__version__,
        started_at=asked.started_at,
        seconds=round(report.seconds, 3),
        counts={outcome: len(report.of(outcome)) for outcome in Outcome},
        unsupported=_unsupported(report.of(Outcome.NOT_OFFERED)),
        rules=rules,
    )


def to_rule(result: RuleResult, repeat: str) -> CheckedRule:
    """Return a rule's entry in the document."""
    rule = result.rule
    calls = [
        CallMade(asked=made.asked, answered=made.answered, seconds=round(made.seconds, 6))
        for made in result.calls
    ]
    return CheckedRule(
        id=rule.id,
        title=rule.title,
        section=rule.section,
        needs=sorted(rule.needs),
        outcome=result.outcome,
        seconds=round(result.seconds, 6),
        message=result.message,
        seen=dict(result.seen),
        calls=calls,
        repeat=repeat,
    )


def repeat_command(target: Target, asked: Asked, result: RuleResult) -> str:
    """Return the command that runs one rule alone again; the key comes from the environment."""
    import shlex

    words = ["loops", "conformance", target.shown_url, "--only", result.rule.id]
    words += ["--seed", str(asked.seed)]
    if asked.base_model is not None:
        words += ["--base-model", asked.base_model]
    if asked.profile.name != "loops-0.32":
        words += ["--profile", asked.profile.name]
    return shlex.join(words)


def _unsupported(results: Iterable[RuleResult]) -> list[Unsupported]:
    by_reason: dict[str, list[str]] = {}
    for result in results:
        by_reason.setdefault(result.message, []).append(result.rule.id)
    return [Unsupported(feature=reason, rules=by_reason[reason]) for reason in sorted(by_reason)]
