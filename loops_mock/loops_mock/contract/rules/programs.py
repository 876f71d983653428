"""Rules of whole programs: calls in any order, each result compared with the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from loops_mock.contract.rule import CheckFailed, rule
from loops_mock.contract.search import find_failing_program
from loops_mock.contract.subject import Subject
from loops_mock.strategies.data import PROTOCOL_LOSSES

_MOST_PROGRAMS: Final = 40
_SEARCH_S: Final = 2.0
"""How long programs are tried, so that a slow service is asked less."""


@rule(
    "programs.results-follow-the-order-of-calls",
    title="Whatever calls come in whatever order, each result is what those before it imply",
    section="6.6",
    needs={"train", "sample"},
)
def _valid(subject: Subject) -> None:
    _search(subject, failures=False)


@rule(
    "programs.failures-change-nothing",
    title="Refused calls and failed operations among others leave no trace in any later result",
    section="6.6",
    needs={"train", "sample"},
)
def _failures(subject: Subject) -> None:
    _search(subject, failures=True)


@rule(
    "programs.every-loss",
    title="The same is true of passes with every loss that is offered",
    section="6.6",
    needs={"train", "sample"},
)
def _losses(subject: Subject) -> None:
    offered = [name for name in PROTOCOL_LOSSES if subject.offers(f"loss:{name}")]
    _search(subject, failures=True, losses=offered)


def _search(
    subject: Subject, *, failures: bool, losses: Sequence[str] = ("cross_entropy",)
) -> None:
    found = find_failing_program(
        subject.target.subject,
        seed=subject.seed,
        max_examples=_MOST_PROGRAMS,
        losses=losses,
        failures=failures,
        search_s=_SEARCH_S,
    )
    if found is None:
        return
    for made in found.made:
        subject.log.add(made.asked, made.answered, made.seconds, is_poll=made.is_poll)
    seen = {**found.failure.seen, "program": str(found.program)}
    raise CheckFailed(found.failure.message, seen)
