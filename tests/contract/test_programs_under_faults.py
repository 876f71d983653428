"""Whatever happens to messages and to the worker, programs of calls mean what they mean.

LOOPS_LONG_CONTRACT=1 tries 500 programs, LOOPS_CONTRACT_SEED others.
"""

from __future__ import annotations

import os
from typing import Final

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from loops_mock.contract.check import check_program
from loops_mock.contract.target import Target
from loops_mock.simulation.faults import (
    MESSAGE_FAULTS,
    TRAINING_ROUTES,
    FaultPlan,
    JumpClock,
    Restart,
)
from loops_mock.simulation.world import World
from loops_mock.strategies import Program, programs

LONG: Final = "LOOPS_LONG_CONTRACT" in os.environ
SEED: Final = int(os.environ.get("LOOPS_CONTRACT_SEED", "0"))

# What is left out changes what a caller sees: results that are gone, disks that are full, a worker
# that stays away for longer than a listing is tried.
KINDS: Final = (*MESSAGE_FAULTS, Restart, JumpClock)
ROUTES: Final = (*TRAINING_ROUTES, "forward", "load_state", "load_state_with_optimizer", "cancel")

PATIENCE_S: Final = 3_000.0
"""Of the world's time: retries of retries take long."""


@pytest.mark.slow  # a worker dies and comes back in many of the worlds
def test_programs_mean_the_same_under_faults() -> None:
    num_met = 0

    @seed(SEED)
    @settings(
        max_examples=500 if LONG else 20,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(programs(failures=True), st.integers(0, 2**31))
    def look(program: Program, number: int) -> None:
        nonlocal num_met
        plan = FaultPlan.seeded(number, rate=0.15, kinds=KINDS, routes=ROUTES, num_calls=20)
        with (
            World(seed=number, faults=plan) as world,
            Target(
                "sim:world", base_model="mock-tiny", plugins=[world], clock=world.clock
            ) as target,
            target.subject() as subject,
        ):
            check_program(subject, program, sums_are_exact=True, timeout_s=PATIENCE_S)
            num_met += len(world.met)

    look()
    assert num_met >= 20, "faults were met"
