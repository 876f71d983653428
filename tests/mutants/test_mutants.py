"""Mutants are faults that exist: each finds what it changes, changes it, and takes it back."""

from __future__ import annotations

import re

import pytest
from tests.mutants.catalogue import MUTANTS
from tests.mutants.editing import Edit, StaleMutantError, Value, find_function
from tests.mutants.mutant import Mutant

LEAST = 60


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS.keys())
def test_a_mutant_changes_what_it_says_and_takes_it_back(mutant: Mutant) -> None:
    targets = {each.target for each in mutant.changes if isinstance(each, Edit)}
    functions = [find_function(target) for target in sorted(targets)]
    before = [function.__code__ for function in functions]

    with mutant.applied():
        changed = [function.__code__ for function in functions]

    assert all(old != new for old, new in zip(before, changed, strict=True))
    assert [function.__code__ for function in functions] == before


def test_there_are_enough_mutants_with_a_name_and_a_story_each() -> None:
    stories = [mutant.story for mutant in MUTANTS.values()]

    assert len(MUTANTS) >= LEAST
    assert all(re.fullmatch(r"[a-z]+\.[a-z0-9-]+", mutant_id) for mutant_id in MUTANTS)
    assert len(set(stories)) == len(stories)
    assert all(len(story) < 100 and not story.endswith(".") for story in stories)


@pytest.mark.parametrize(
    "change",
    [
        Edit("loops_mock.state:apply_adam", "what_is_not_there()", "None"),
        Edit("loops_mock.state:no_such_function", "1", "2"),
        Value("loops_mock.trainer:ALPHA", lambda old: old),
        Value("loops_mock.trainer:NOTHING", lambda _: 1),
    ],
)
def test_a_change_without_its_place_is_an_error(change: Edit | Value) -> None:
    with pytest.raises(StaleMutantError):
        change.apply()
