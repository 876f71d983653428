"""Programs are valid unless a failure is asked for, and shrink to the fewest and smallest calls."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import find, given, settings

from loops_mock.strategies import (
    Defect,
    OptimStep,
    Pass,
    Program,
    ProgramCall,
    Refused,
    Row,
    programs,
)
from loops_mock.strategies.program import REFUSALS
from loops_mock.strategies.programs import without_failures

SEARCH = settings(max_examples=3_000, database=None, derandomize=True)
SMALLEST = Pass((Row((0,), (0,)),))


@given(programs())
def test_a_valid_program_has_nothing_to_leave_out(program: Program) -> None:
    assert tuple(without_failures(program.calls)) == program.calls
    assert not any(isinstance(call, Refused) for call in program)


def test_every_call_occurs() -> None:
    seen: set[type[ProgramCall]] = set()

    @settings(max_examples=150, derandomize=True, database=None)
    @given(programs())
    def look(program: Program) -> None:
        seen.update(type(call) for call in program)

    look()
    assert seen == set(get_args(ProgramCall)) - {Refused}


@pytest.mark.slow  # searches
def test_a_planted_failure_shrinks_to_the_minimal_program() -> None:
    planted = programs(max_calls=4)
    found = find(planted, lambda program: OptimStep in map(type, program), settings=SEARCH)
    assert list(found) == [SMALLEST, OptimStep()]


@given(programs(invalid=True))
def test_an_invalid_program_has_one_wrong_call_its_last(defect: Defect[Program]) -> None:
    *valid, last = defect.value
    assert last == Refused(last.what) if isinstance(last, Refused) else False
    assert defect.name in REFUSALS
    assert tuple(without_failures(valid)) == tuple(valid)


def test_failures_are_drawn_when_asked_for() -> None:
    found = find(programs(failures=True), lambda p: OptimStep() in p.calls, settings=SEARCH)
    assert list(found) == [OptimStep()]
