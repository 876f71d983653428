"""Under every plan each accepted operation runs exactly once, and no call outlives its timeout.

`LOOPS_LONG_SIMULATION=1` sweeps 400 seeds a plan in place of 12.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Final

import pytest
from tests.simulation.programs import Outcomes, train_under_trouble

from loops_core.worker.queue_settings import QueueSettings
from loops_mock.simulation.durations import Durations
from loops_mock.simulation.faults import (
    MESSAGE_FAULTS,
    DiskFull,
    EvictResults,
    Fault,
    FaultPlan,
    JumpClock,
    Preempt,
    Restart,
    SlowSampler,
)
from loops_mock.simulation.world import World

NUM_SEEDS: Final = 400 if os.environ.get("LOOPS_LONG_SIMULATION") == "1" else 12

WORLD_SEED: Final = 5

DEATHS: Final = (Restart, Preempt)
HARMLESS: Final = (*MESSAGE_FAULTS, *DEATHS, SlowSampler, JumpClock)
"""Faults after which everything that was accepted has its usual result."""

PATIENT: Final = QueueSettings(max_attempts=100)
"""An operation during which the worker dies is tried again, as often as it takes."""

QUICK: Final = Durations(save_s=0.5)


@pytest.fixture(scope="module")
def expected() -> Outcomes:
    """Return what the program sees where nothing happens."""
    with World(WORLD_SEED, durations=QUICK) as world:
        return train_under_trouble(world)


def check_calls(world: World) -> None:
    """Fail where a call took longer than it was allowed to."""
    allowed: dict[object, tuple[float, float]] = {}
    for event in world.trace.events():
        if event.what == "send" and isinstance(event.details[1], float):
            allowed[event.details[0]] = (event.time_s, event.details[1])
        if event.what == "reply" and event.details[0] in allowed:
            begin_s, timeout_s = allowed.pop(event.details[0])
            took_s = event.time_s - begin_s
            assert took_s <= timeout_s + 1e-6, f"{event} took {took_s} of {timeout_s} s"


def runs_of(world: World) -> Counter[object]:
    """Return how often each operation was run."""
    return Counter(event.details[0] for event in world.trace.events("run"))


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_faults_of_messages_change_no_result_and_run_nothing_twice(
    expected: Outcomes, rate: float
) -> None:
    for seed in range(NUM_SEEDS):
        plan = FaultPlan.seeded(seed, rate=rate)
        with World(WORLD_SEED, plan, durations=QUICK) as world:
            assert train_under_trouble(world) == expected, plan
            assert set(runs_of(world).values()) == {1}, plan
            assert len(runs_of(world)) == len(expected) + 1, plan  # and the first, `init`
            check_calls(world)


@pytest.mark.slow
def test_a_worker_that_dies_loses_nothing_and_applies_nothing_twice(expected: Outcomes) -> None:
    num_deaths = 0
    for seed in range(NUM_SEEDS):
        plan = FaultPlan.seeded(seed, rate=0.2, kinds=(*DEATHS, *DEATHS, *HARMLESS))
        with World(WORLD_SEED, plan, durations=QUICK, queue=PATIENT) as world:
            assert train_under_trouble(world) == expected, plan
            deaths = len(world.trace.events("down"))
            assert all(number <= 1 + deaths for number in runs_of(world).values()), plan
            check_calls(world)
            num_deaths += deaths
    assert num_deaths > NUM_SEEDS // 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "error"), [(EvictResults, "UnknownRequestError"), (DiskFull, "RemoteOpError")]
)
def test_what_a_fault_may_cost_is_the_operation_it_hits(
    expected: Outcomes, kind: type[Fault], error: str
) -> None:
    routes = ("retrieve", "save_state", "save_weights_for_sampler", "optim_step")
    num_hit = 0
    for seed in range(NUM_SEEDS):
        plan = FaultPlan.seeded(seed, rate=0.15, kinds=(kind,), routes=routes)
        with World(WORLD_SEED, plan, durations=QUICK) as world:
            outcomes = train_under_trouble(world)
            for (name, seen), (_, usual) in zip(outcomes, expected, strict=True):
                assert seen in (usual, error), f"{name} under {plan}"
                num_hit += seen == error
            assert set(runs_of(world).values()) == {1}, plan
            check_calls(world)
    assert num_hit
