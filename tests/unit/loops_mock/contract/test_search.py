"""Programs find what is wrong with a service, and shrink to what shows it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisDeprecationWarning
from tests.unit.loops_mock.contract.faulty import Fault, open_faulty

from loops_mock.contract.check import check_program
from loops_mock.contract.machine import MOST_CALLS, make_machine, run_machine
from loops_mock.contract.rule import CheckFailed
from loops_mock.contract.search import beside_other_threads, find_failing_program
from loops_mock.contract.shrinking import shrink
from loops_mock.contract.target import Target
from loops_mock.strategies import (
    Cancel,
    Init,
    Load,
    OptimStep,
    Pass,
    Program,
    ProgramCall,
    Publish,
    ReadAgain,
    Refused,
    Repeat,
    Row,
    Sample,
    SaveState,
)
from loops_mock.strategies.program import REFUSALS

LONG = "LOOPS_LONG_CONTRACT"
SMALL = Pass((Row((0,), (0,)),))
TRAIN = (Pass((Row((1, 2), (2, 3)),)), OptimStep())


@pytest.fixture(scope="module")
def mock() -> Iterator[Target]:
    with Target("inproc:mock?data_dir=:memory:") as target:
        yield target


@pytest.mark.parametrize(
    "calls",
    [
        (),
        (*TRAIN, SMALL, *TRAIN, ReadAgain(3)),
        (*TRAIN, SaveState(), *TRAIN, Load(), *TRAIN, Load(optimizer=False), *TRAIN),
        (*TRAIN, Publish(), Sample((3,), 3, 2), *TRAIN, Sample((3,), 3, 2, of="a"), Publish("a")),
        (SMALL, Repeat(), OptimStep(), Repeat(1), Repeat(), Cancel()),
        (SMALL, Cancel(), OptimStep(), Init(1), *TRAIN, Init(2)),
        (OptimStep(), Load("b"), SMALL, Pass(SMALL.rows, skip_normalization=True), OptimStep()),
        (SMALL, *(Refused(what) for what in REFUSALS), OptimStep()),
    ],
)
def test_the_mock_does_what_programs_imply(mock: Target, calls: tuple[ProgramCall, ...]) -> None:
    with mock.subject() as subject:
        check_program(subject, Program(calls), sums_are_exact=True)


@pytest.mark.slow  # a hundred trainers
def test_a_search_finds_nothing_wrong_with_the_mock(mock: Target) -> None:
    found = find_failing_program(mock.subject, seed=3, max_examples=40, sums_are_exact=True)
    assert found is None, str(found)


def _accumulates(trainer: Any, *args: Any, **named: Any) -> Any:
    return trainer.forward_backward(*args, **named)


def _forgets_moments(trainer: Any, path: Path, *, optimizer: bool) -> None:
    step = trainer.load(path, optimizer=optimizer)
    if optimizer and not trainer.step:
        return step
    return trainer.load(path, optimizer=False)


def _poisons(trainer: Any, adam_params: Any) -> dict[str, float]:
    try:
        return trainer.optim_step(adam_params)
    except ValueError:
        trainer.init(rank=trainer.rank, seed=99)
        raise


def _does_nothing(trainer: Any, adam_params: Any) -> dict[str, float]:
    return trainer.optim_step(adam_params.model_copy(update={"learning_rate": 0.0})) | {
        "learning_rate": adam_params.learning_rate
    }


FAULTS: dict[str, tuple[dict[str, Fault], int]] = {
    "forward adds to the gradients": ({"forward": _accumulates}, 2),
    "a load forgets the optimizer": ({"load": _forgets_moments}, 5),
    "a failed step wipes the adapter": ({"optim_step": _poisons}, 4),
    "a step does nothing": ({"optim_step": _does_nothing}, 2),
}


@pytest.mark.slow  # searches and shrinks
@pytest.mark.parametrize("what", FAULTS)
def test_a_planted_fault_is_found_and_shrunk_to_the_calls_that_show_it(what: str) -> None:
    faults, num_calls = FAULTS[what]
    with open_faulty(**faults) as target:
        found = find_failing_program(target.subject, seed=1, max_examples=100, sums_are_exact=True)
    assert found is not None
    assert len(found.program) <= num_calls, str(found)
    assert found.made
    assert str(found.program) in str(found)


@pytest.mark.skipif(LONG not in os.environ, reason=f"shrinks for a while: {LONG}=1")
def test_the_machine_finds_a_planted_fault_with_few_calls() -> None:
    with open_faulty(optim_step=_does_nothing) as target:
        machine = make_machine(target.subject, sums_are_exact=True)
        with pytest.raises(CheckFailed) as caught:
            run_machine(machine, max_examples=100, seed=1)
    notes = "\n".join(caught.value.__notes__)
    steps = [line for line in notes.splitlines() if line.strip().startswith("state.")]
    assert 1 <= len(steps) <= MOST_CALLS, notes


def test_shrinking_leaves_the_calls_that_matter_in_their_simplest_form() -> None:
    calls = (*TRAIN, SaveState("b"), SMALL, Load("b", optimizer=False), Publish(), Sample((3, 4)))
    kinds = {SaveState, Load}
    small = shrink(Program(calls), lambda program: kinds <= {type(call) for call in program})
    assert list(small) == [SaveState(), Load()]


def test_shrinking_tries_no_more_than_it_may() -> None:
    tried: list[Program] = []

    def still_fails(program: Program) -> bool:
        tried.append(program)
        return False

    shrink(Program(TRAIN * 5), still_fails, most_attempts=3)
    assert len(tried) == 3


def test_a_service_may_draw_random_numbers_while_examples_are_drawn() -> None:
    @settings(max_examples=3, database=None)
    @given(st.integers().map(lambda number: number + int(random.random())))
    def look(number: int) -> None:
        assert isinstance(number, int)

    with pytest.raises(HypothesisDeprecationWarning):
        look()
    with beside_other_threads():
        look()
