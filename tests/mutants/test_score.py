"""The short form of the mutation score: mutants of each kind, with the rules that find them.

`make mutants` tries all of them against all rules.
"""

from __future__ import annotations

from typing import Final

import pytest
from tests.mutants.catalogue import MUTANTS
from tests.mutants.machine import MACHINE
from tests.mutants.scoring import GOAL, read_hints, run_trial
from tests.mutants.trial import MOST_CALLS, open_place

from loops_mock.contract.rule import all_rules
from loops_mock.contract.running import Outcome

SHORT: Final = (
    "passes.gradients-erased",
    "steps.gradients-kept",
    "load.optimizer-not-restored",
    "publish.stale-adapter",
    "sample.temperature-ignored",
    "queue.repeat-runs-again",
    "recovery.last-entry-lost",
)


@pytest.mark.slow
@pytest.mark.parametrize("mutant_id", SHORT)
def test_a_fault_is_found_with_few_calls(mutant_id: str) -> None:
    mutant, rule_id = MUTANTS[mutant_id], read_hints()[mutant_id]
    rule = next(rule for rule in all_rules() if rule.id == rule_id)

    with open_place(mutant.place, None) as run:
        without = run([rule])[0]
    trial = run_trial(mutant, [rule_id])

    assert without.outcome is Outcome.PASSED
    assert trial.is_found
    assert trial.num_calls <= MOST_CALLS


def test_a_rule_is_known_for_as_many_mutants_as_have_to_be_found() -> None:
    rules, hints = {rule.id for rule in (*all_rules(), MACHINE)}, read_hints()
    known = [mutant_id for mutant_id in MUTANTS if hints.get(mutant_id) in rules]

    assert len(known) >= GOAL * len(MUTANTS)
