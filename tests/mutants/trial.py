"""One mutant's trial: the rules are run against a service with the fault, until one finds it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self, final

from tests.mutants.catalogue import MUTANTS
from tests.mutants.counting import count_calls
from tests.mutants.machine import MACHINE
from tests.mutants.mutant import Mutant, Place
from tests.mutants.worlds import SUBJECTS, open_world

from loops_mock.contract.rule import Rule, all_rules
from loops_mock.contract.running import RuleResult, run_rules
from loops_mock.contract.target import Target

MOST_CALLS: Final = 10
"""The most calls of a case that shows a fault: of rules that find it, one with so few is wanted."""

RULE_LIMIT_S: Final = 20.0
"""A rule that takes longer ends as an error: that is how a fault that hangs is found."""

_AT_ONCE: Final = 4
"""How many rules run side by side where several are asked for, as `loops conformance` has it."""

BASE_MODEL: Final = "mock-tiny"
KEY: Final = "a-key-of-the-mutants"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came of one mutant.

    Attributes:
        mutant: its id.
        rule: the rule that found it; None = none did.
        outcome: how the rule ended: it failed, or the check itself ended with an error.
        message: what the rule had expected.
        calls: the calls that show it, polls that found nothing yet left out.
        num_rules: how many rules were run.
        seconds: how long it took.
    """

    mutant: str
    rule: str | None
    outcome: str = ""
    message: str = ""
    calls: tuple[str, ...] = ()
    num_rules: int = 0
    seconds: float = 0.0

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the trial whose fields a JSON object has."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**{**fields, "calls": tuple(fields["calls"])})  # type: ignore[arg-type]  # ours

    @property
    def is_found(self) -> bool:
        """Return whether a rule found the fault."""
        return self.rule is not None

    @property
    def num_calls(self) -> int:
        """Return how many calls the case has, as a user counts them."""
        return count_calls(self.calls)


def try_mutant(mutant: Mutant, rule_ids: Sequence[str], *, limit_s: float) -> Trial:
    """Return what came of a mutant, whose fault this process has from now on.

    Args:
        mutant: the fault.
        rule_ids: the rules that pass without it, in the order in which they are tried.
        limit_s: no further rule is begun after so many seconds.
    """
    start = time.perf_counter()
    known = {rule.id: rule for rule in (*all_rules(), MACHINE)}
    best = Trial(mutant=mutant.id, rule=None)
    num_rules = 0
    with contextlib.ExitStack() as resources:
        if mutant.place != "http" or not mutant.is_in_server:
            resources.enter_context(mutant.applied())
        run = resources.enter_context(open_place(mutant.place, mutant))
        for rule_id in (rule_id for rule_id in rule_ids if rule_id in known):
            if time.perf_counter() - start > limit_s:
                break
            num_rules += 1
            found = _to_trial(mutant, run([known[rule_id]])[0])
            if found.is_found and (not best.is_found or found.num_calls < best.num_calls):
                best = found
            if best.is_found and best.num_calls <= MOST_CALLS:
                break
    return replace(best, num_rules=num_rules, seconds=time.perf_counter() - start)


def _to_trial(mutant: Mutant, result: RuleResult) -> Trial:
    if result.is_kept:
        return Trial(mutant=mutant.id, rule=None)
    return Trial(
        mutant=mutant.id,
        rule=result.rule.id,
        outcome=result.outcome.value,
        message=result.message,
        calls=tuple(f"{made.asked} -> {made.answered}" for made in result.calls),
    )


def passing_rules(place: Place) -> Sequence[RuleResult]:
    """Return the result of every rule against a service without a fault."""
    rules = [*all_rules(), MACHINE]
    if place == "world":
        rules = [rule for rule in rules if rule.id.startswith(SUBJECTS)]
    with open_place(place, None) as run:
        return run(rules)


Run = Callable[[Sequence[Rule]], Sequence[RuleResult]]
"""Runs rules in an open place."""


@contextlib.contextmanager
def open_place(place: Place, mutant: Mutant | None) -> Generator[Run]:
    """Return what runs rules in a place; a server of its own has the mutant's fault."""
    if place == "world":
        yield lambda rules: run_rules(open_world, rules, timeout_s=None).results
        return
    is_in_server = mutant is not None and mutant.is_in_server
    with open_served(mutant if is_in_server else None) if place == "http" else open_inproc() as on:
        yield (
            lambda rules: (
                run_rules(on.subject, rules, timeout_s=RULE_LIMIT_S, num_at_once=_AT_ONCE).results
            )
        )


def open_inproc() -> Target:
    """Return the mock in this process."""
    return Target("inproc:mock?data_dir=:memory:", base_model=BASE_MODEL)


@contextlib.contextmanager
def open_served(mutant: Mutant | None) -> Generator[Target]:
    """Return the mock behind HTTP, in a process of its own that has the fault."""
    command = [sys.executable, "-m", "tests.mutants.served", "" if mutant is None else mutant.id]
    options = ["--backend", "mock", "--base-model", BASE_MODEL, "--data-dir", ":memory:"]
    options += ["--port", "0", "--api-key", KEY, "--json"]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            started: dict[str, Any] = json.loads(process.stdout.readline() or "{}")
            if "url" not in started:
                raise RuntimeError(f"the server of {mutant and mutant.id} did not start")
            with Target(started["url"], api_key=KEY, base_model=BASE_MODEL) as target:
                yield target
        finally:
            process.kill()


def find_mutant(mutant_id: str) -> Mutant:
    """Return a mutant by its id."""
    if mutant_id not in MUTANTS:
        raise SystemExit(f"there is no mutant {mutant_id!r}")
    return MUTANTS[mutant_id]
