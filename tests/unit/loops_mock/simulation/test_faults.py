"""Fault plans are values: seeded, printed, pasted, and counted per route."""

from __future__ import annotations

from typing import Any

import pytest

from loops_core.errors import UsageError
from loops_mock.simulation import faults
from loops_mock.simulation.faults import (
    MESSAGE_FAULTS,
    WORLD_FAULTS,
    Delay,
    DropRequest,
    EvictResults,
    FaultPlan,
    JumpClock,
    Restart,
    Status,
    Truncate,
)

EVERYTHING = (*MESSAGE_FAULTS, *WORLD_FAULTS)


def test_the_repr_of_a_plan_makes_the_same_plan() -> None:
    plan = FaultPlan.seeded(7, rate=0.5, kinds=EVERYTHING)
    names: dict[str, Any] = dict(vars(faults))
    assert len(plan.faults) > 100
    assert eval(repr(plan), names) == plan  # our own text


def test_equal_seeds_draw_equal_plans_and_other_seeds_others() -> None:
    assert FaultPlan.seeded(1, kinds=EVERYTHING) == FaultPlan.seeded(1, kinds=EVERYTHING)
    assert FaultPlan.seeded(1) != FaultPlan.seeded(2)


def test_a_seeded_plan_is_the_same_on_every_platform() -> None:
    plan = FaultPlan.seeded(3, rate=0.5, routes=["retrieve"], num_calls=6)
    assert plan == FaultPlan(
        (
            Truncate(route="retrieve", at=1, times=1, share=0.069),
            Truncate(route="retrieve", at=6, times=1, share=0.642),
        )
    )


def test_a_route_of_a_seeded_plan_does_not_hang_on_the_other_routes() -> None:
    alone = FaultPlan.seeded(5, routes=["optim_step"])
    both = FaultPlan.seeded(5, routes=["retrieve", "optim_step"])
    assert alone.faults == tuple(fault for fault in both.faults if fault.route == "optim_step")


def test_a_fault_hits_the_calls_of_its_route_by_their_number() -> None:
    drop = DropRequest("retrieve", at=2, times=2)
    run = FaultPlan((drop,)).begin()
    assert run.meet("optim_step") == ()
    assert [run.meet("retrieve") for _ in range(4)] == [(), (drop,), (drop,), ()]


def test_a_fault_of_any_route_counts_all_calls() -> None:
    late = Delay(at=3)
    run = FaultPlan((late,)).begin()
    assert [run.meet(name) for name in ("sample", "retrieve", "sample")] == [(), (), (late,)]


def test_a_run_remembers_what_was_met() -> None:
    run = FaultPlan((Delay("sample", at=2), Status(at=3))).begin()
    for name in ("sample", "retrieve", "sample"):
        run.meet(name)
    (met,) = run.met
    assert (met.route, met.number, len(met.faults)) == ("sample", 2, 2)


def test_a_plan_keeps_the_kinds_that_are_asked_for() -> None:
    plan = FaultPlan((Delay("sample"), Restart("optim_step"), EvictResults()))
    assert plan.needs_durable
    assert plan.only(*MESSAGE_FAULTS) == FaultPlan((Delay("sample"),))
    assert plan.without(1) == FaultPlan((Delay("sample"), EvictResults()))
    assert not plan.without(1).needs_durable


def test_a_clock_may_jump_back() -> None:
    assert JumpClock("retrieve", seconds=-60.0).seconds == -60.0


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: DropRequest("retreive"), "route"),
        (lambda: DropRequest("retrieve", at=0), "at"),
        (lambda: DropRequest("retrieve", times=0), "times"),
        (lambda: Delay("retrieve", seconds=-1.0), "seconds"),
        (lambda: Delay("retrieve", seconds=float("nan")), "seconds"),
        (lambda: Status("retrieve", retry_after_s=-1.0), "retry_after_s"),
        (lambda: Status("retrieve", code=500), "code"),
        (lambda: Truncate("retrieve", share=1.0), "share"),
        (lambda: FaultPlan.seeded(1, rate=1.5), "rate"),
        (lambda: FaultPlan.seeded(1, kinds=()), "kinds"),
        (lambda: FaultPlan(("drop",)), "faults"),  # type: ignore[arg-type]  # what is tested
    ],
)
def test_a_wrong_value_is_refused_by_name(make: Any, field: str) -> None:
    with pytest.raises(UsageError) as raised:
        make()
    assert raised.value.field == field
