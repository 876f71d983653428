"""Programs of random calls as one more rule, tried where no other rule has found anything."""

from __future__ import annotations

from typing import Final

from loops_mock.contract.rule import CheckFailed, Rule
from loops_mock.contract.search import find_failing_program
from loops_mock.contract.subject import Subject

_EXAMPLES: Final = 200
_SEARCH_S: Final = 8.0


def _check(subject: Subject) -> None:
    """Look for a program that the service gets wrong; its calls are those of the case."""
    failing = find_failing_program(
        subject.target.subject,
        seed=0,
        max_examples=_EXAMPLES,
        search_s=_SEARCH_S,
        sums_are_exact=True,
    )
    if failing is None:
        return
    for made in failing.made:
        subject.log.add(made.asked, made.answered, made.seconds, is_poll=made.is_poll)
    raise CheckFailed(failing.failure.message, failing.failure.seen)


MACHINE: Final = Rule(
    id="machine.random-programs",
    title="Whatever is called in whatever order, a service answers as the oracle says",
    section="6",
    needs=frozenset({"train", "sample"}),
    check=_check,
)
