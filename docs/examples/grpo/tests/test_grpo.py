"""The loop learns, uses Loops rightly, survives faults, and says what it said on JAX."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest
from grpo import Settings, advantages, grpo

from loops_mock.simulation.faults import DropRequest, FaultPlan, LoseAnswer, Status
from loops_mock.simulation.world import World
from loops_mock.watching import Watch

MOCK = Settings(base_model="mock-tiny")
PROMPTS = [[10, 11, 12], [20, 21, 22, 23]]
FAULTS = FaultPlan(
    (DropRequest("forward_backward"), LoseAnswer("optim_step"), Status("sample", code=503))
)


def test_advantages_compare_the_members_of_a_group() -> None:
    assert advantages([1.0, 0.0]) == pytest.approx([1.0, -1.0], abs=1e-5)
    assert advantages([0.5, 0.5, 0.5]) == [0.0, 0.0, 0.0]


@pytest.mark.loops
def test_the_reward_rises() -> None:
    rewards = grpo(MOCK, PROMPTS)
    assert fmean(rewards[-3:]) > fmean(rewards[:3]) + 0.2


@pytest.mark.loops
def test_no_batch_is_trained_on_twice(loops_watch: Watch) -> None:
    grpo(replace(MOCK, steps=3), PROMPTS)
    loops_watch.assert_no_batch_twice()


@pytest.mark.loops
def test_a_run_is_repeatable() -> None:
    settings = replace(MOCK, steps=3)
    assert grpo(settings, PROMPTS) == grpo(settings, PROMPTS)


@pytest.mark.loops(faults=FAULTS)
def test_faults_are_survived(loops_world: World) -> None:
    rewards = grpo(replace(MOCK, steps=3), PROMPTS)
    assert len(rewards) == 3
    assert len(loops_world.met) == 3


@pytest.mark.loops_cassette("cassettes/loops-tiny.loops")
def test_the_loop_does_what_it_did_on_jax() -> None:
    rewards = grpo(Settings(steps=2, group_size=4), PROMPTS[:1])
    assert len(rewards) == 2
