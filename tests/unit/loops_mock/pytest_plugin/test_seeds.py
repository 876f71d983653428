"""Seeds: the same in every run, on every worker, told when a test fails, and given by hand."""

from __future__ import annotations

import re

import pytest
from tests.unit.loops_mock.pytest_plugin.conftest import Run

pytest_plugins = ["pytester"]

SEEDS = """
@pytest.mark.parametrize("n", [1, 2])
def test_it(loops_seed, loops_faults, n):
    print("seed", n, loops_seed)

class TestClass:
    def test_it(self, loops_seed):
        print("seed", 3, loops_seed)
"""


def seeds_of(result: pytest.RunResult) -> list[str]:
    return sorted(re.findall(r"seed (\d \d+)$", result.stdout.str(), flags=re.MULTILINE))


def test_each_test_has_a_seed_of_its_own_that_is_the_same_in_every_run(run: Run) -> None:
    first, second = (seeds_of(run(SEEDS, "-rP")) for _ in range(2))
    assert first == second
    assert len({line.split()[1] for line in first}) == 3


def test_a_seed_can_be_given_to_all(run: Run) -> None:
    given = seeds_of(run(SEEDS, "-rP", "--loops-seed", "12"))
    assert given == ["1 12", "2 12", "3 12"]


def test_a_failure_tells_seed_and_last_calls(run: Run) -> None:
    result = run(
        """
        @pytest.mark.loops(seed=41)
        def test_it(loops_training_client):
            train(loops_training_client)
            assert False
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*Loops: last calls*",
            "*seed 41; repeat with --loops-seed 41*",
            "opened a client of shared:* (call 1)",
            "*forward_backward #1 was accepted*test_loop.py:* in train*",
            "*optim_step #1 was accepted*",
        ]
    )


@pytest.mark.slow
def test_on_workers_of_xdist_tests_have_their_seeds_and_are_judged(run: Run) -> None:
    judged = """
@pytest.mark.loops(strict=True, seed=5)
@pytest.mark.parametrize("is_wrong", [False, True])
def test_judged(loops_training_client, is_wrong):
    train(loops_training_client)
    if is_wrong:
        loops_training_client.forward(DATA)
"""
    result = run(SEEDS + judged, "-rP", "-n2", "--dist=loadgroup", plugins=["xdist"])
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["*nobody read the result of forward #1*", "*seed 5; repeat*"])
    assert seeds_of(result) == seeds_of(run(SEEDS, "-rP"))


def test_faults_are_none_the_markers_or_drawn_from_the_seed(run: Run) -> None:
    result = run(
        """
        from loops_mock.simulation.faults import DropRequest, FaultPlan

        PLAN = FaultPlan((DropRequest("retrieve"),))

        def test_none(loops_faults):
            assert loops_faults == FaultPlan()

        @pytest.mark.loops(faults=PLAN)
        def test_given(loops_faults):
            assert loops_faults == PLAN

        @pytest.mark.loops(faults=True)
        def test_drawn(loops_faults, loops_seed):
            assert loops_faults == FaultPlan.seeded(loops_seed)
        """
    )
    result.assert_outcomes(passed=3)
