"""A run's weights, from hand-written events: when they changed, what was published when."""

from __future__ import annotations

from loops_core.types.operation import OperationKind
from loops_mock.watching.events import Event, Sampled, Settled, Submitted
from loops_mock.watching.history import History
from loops_mock.watching.lifetimes import gradients_not_applied
from loops_mock.watching.program import Program

INIT, LOAD = OperationKind.INIT_TRAINER_SERVER, OperationKind.LOAD_STATE
PASS, STEP = OperationKind.FORWARD_BACKWARD, OperationKind.OPTIM_STEP
PUBLISH = OperationKind.SAVE_WEIGHTS_FOR_SAMPLER


def program(*kinds: OperationKind, outcomes: dict[int, Settled] | None = None) -> Program:
    """Return a run of operations at positions 1, 2, ...; an outcome is of the one at its key."""
    events: list[Event] = [
        Submitted(
            number=number,
            service=0,
            kind=kind,
            ordinal=number,
            operation_id=f"op{number}",
            run_id="r",
        )
        for number, kind in enumerate(kinds, start=1)
    ]
    return Program.of([*events, *(outcomes or {}).values()])


def settled(number: int, *, error: str | None = None, version: int | None = None) -> Settled:
    return Settled(number=100, service=0, operation_id=f"op{number}", error=error, version=version)


def history(seen: Program) -> History:
    return History.of(seen.operations["r"], seen.outcomes)


def sample(number: int, version: int | None) -> Sampled:
    return Sampled(
        number=number,
        service=0,
        ordinal=1,
        run_id="r",
        version=version,
        is_pinned=False,
        is_scoring=False,
        sequences=(),
    )


def test_the_loads_that_a_trainer_begins_with_change_nothing() -> None:
    assert history(program(INIT, LOAD, PASS, STEP)).changes == [4]
    assert history(program(INIT, PASS, STEP, LOAD)).changes == [3, 4]


def test_a_step_without_gradients_changes_nothing() -> None:
    assert history(program(INIT, STEP, PASS, STEP, STEP)).changes == [4]


def test_a_publish_that_nobody_read_made_the_next_version() -> None:
    seen = program(INIT, PUBLISH, PASS, STEP, PUBLISH, outcomes={2: settled(2, version=4)})
    assert [each.version for each in history(seen).publishes] == [4, 5]


def test_a_step_that_failed_changed_nothing_and_applied_nothing() -> None:
    failed = {3: settled(3, error="RemoteOpError")}
    seen = program(INIT, PASS, STEP, outcomes=failed)
    assert history(seen).changes == []
    assert [finding.position for finding in gradients_not_applied(seen)] == [2]


def test_a_pass_that_failed_has_no_gradients_to_lose() -> None:
    assert not gradients_not_applied(
        program(INIT, PASS, outcomes={2: settled(2, error="RemoteOpError")})
    )


def test_a_sample_counts_the_steps_before_it_alone() -> None:
    past = history(program(INIT, PUBLISH, PASS, STEP, PUBLISH, PASS, STEP))
    assert [past.steps_behind(sample(number, 1)) for number in (3, 5, 8)] == [0, 1, 2]
    assert [past.steps_behind(sample(8, version)) for version in (0, 2)] == [2, 1]


def test_an_unknown_version_is_no_lag() -> None:
    past = history(program(INIT, PUBLISH, PASS, STEP))
    assert [past.steps_behind(sample(8, version)) for version in (None, 7)] == [0, 0]


def test_versions_behind_are_those_published_before_the_pass() -> None:
    past = history(program(INIT, PUBLISH, PASS, STEP, PUBLISH, PASS, STEP, PUBLISH))
    assert [past.versions_behind(sample(3, 1), number) for number in (4, 6, 9)] == [0, 1, 2]
