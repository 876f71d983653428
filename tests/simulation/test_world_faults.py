"""Each fault does what it says, at the time it says."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
from tests.simulation.programs import STEP, datum

from loops_core.client.training import TrainingClient
from loops_core.errors import BusyError, RemoteOpError, UnknownRequestError, UnreachableError
from loops_core.types.datum import ModelInput
from loops_core.types.sampling import SamplingParams
from loops_mock.simulation.durations import Durations
from loops_mock.simulation.faults import (
    Delay,
    DiskFull,
    DropRequest,
    Duplicate,
    EvictResults,
    Fault,
    FaultPlan,
    JumpClock,
    LoseAnswer,
    Preempt,
    Reorder,
    Restart,
    SlowSampler,
    Status,
    Truncate,
    WithholdVersion,
)
from loops_mock.simulation.trace import Event
from loops_mock.simulation.world import World

EXACT = Durations(spread=0.0)
PARAMS = SamplingParams(max_tokens=10)


def open_world(*faults: Fault, durations: Durations = EXACT) -> tuple[World, TrainingClient]:
    world = World(1, FaultPlan(faults), durations=durations)
    return world, world.service().create_lora_training_client("mock-tiny", rank=4)


def events(world: World, what: str, about: str) -> list[Event]:
    return [event for event in world.trace.events(what) if event.about == about]


def gap_s(world: World, route: str) -> float:
    """Return the time between the first two attempts of a call."""
    first, second = events(world, "send", route)[:2]
    return second.time_s - first.time_s


@pytest.mark.parametrize(
    "fault",
    [DropRequest("optim_step"), LoseAnswer("optim_step"), Truncate("optim_step")],
)
def test_a_submit_whose_answer_does_not_arrive_is_repeated_with_its_key(fault: Fault) -> None:
    world, trainer = open_world(fault)
    with world:
        trainer.forward_backward([datum()])
        trainer.optim_step(STEP).result()
        sends = events(world, "send", "optim_step")
        assert len({send.details[2] for send in sends}) == 1
        assert len(sends) == 2
        assert len(events(world, "run", "optim_step")) == 1
        assert events(world, "reply", "optim_step")[0].details[1] == UnreachableError.__name__


@pytest.mark.parametrize("code", [408, 429, 502, 503, 504])
def test_a_retry_after_is_not_undercut(code: int) -> None:
    world, trainer = open_world(Status("optim_step", code=code, retry_after_s=9.0))
    with world:
        trainer.forward_backward([datum()])
        trainer.optim_step(STEP).result()
        assert events(world, "reply", "optim_step")[0].details[1] == BusyError.__name__
        assert gap_s(world, "optim_step") >= 9.0


def test_a_408_without_retry_after_is_a_poll_s_pending() -> None:
    world, trainer = open_world(Status("retrieve", at=2, code=408))
    with world:
        trainer.forward_backward([datum()]).result()
        assert not [reply for reply in events(world, "reply", "retrieve") if len(reply.details) > 1]


def test_a_late_request_arrives_late() -> None:
    world, trainer = open_world(Delay("optim_step", seconds=3.0))
    with world:
        trainer.forward_backward([datum()])
        trainer.optim_step(STEP).result()
        (send,) = events(world, "send", "optim_step")
        (run,) = events(world, "run", "optim_step")
        assert run.time_s - send.time_s == pytest.approx(3.0 + EXACT.latency_s)


def test_a_duplicate_is_answered_twice_and_run_once() -> None:
    world, trainer = open_world(Duplicate("optim_step"))
    with world:
        trainer.forward_backward([datum()])
        assert trainer.optim_step(STEP).result().metrics is not None
        world.clock.sleep(5.0)
        assert len(events(world, "run", "optim_step")) == 1


def test_a_reordered_poll_arrives_behind_the_next_call() -> None:
    world, trainer = open_world(Reorder("retrieve", at=2, seconds=50.0))
    with world:

        async def work() -> None:
            future = await trainer.forward_backward_async([datum()])
            other = await trainer.optim_step_async(STEP)
            await future
            await other

        begin_s = world.clock.monotonic()
        world.run(work())
        assert world.clock.monotonic() - begin_s < 60.0


@pytest.mark.slow
def test_a_restart_runs_the_interrupted_operation_again() -> None:
    world, trainer = open_world(Restart("forward_backward", after_s=0.2))
    with world:
        loss = trainer.forward_backward([datum()]).result().metrics["loss"]
        assert len(events(world, "run", "forward_backward")) == 2
        assert len(events(world, "down", "worker")) == 1
    world, trainer = open_world()
    with world:
        assert trainer.forward_backward([datum()]).result().metrics["loss"] == loss


@pytest.mark.slow
def test_a_preempted_worker_is_away_for_its_time_and_goes_on() -> None:
    world, trainer = open_world(Preempt("forward_backward", after_s=0.2, seconds=100.0))
    with world:
        begin_s = world.clock.monotonic()
        future = trainer.forward_backward([datum()])
        assert future.result().metrics["loss"] > 0.0
        (down,), (up,) = world.trace.events("down"), world.trace.events("up")
        assert up.time_s - down.time_s == pytest.approx(100.0)
        assert world.clock.monotonic() - begin_s > 100.0


def test_an_evicted_result_is_gone_and_the_operation_counts() -> None:
    world, trainer = open_world(EvictResults("retrieve", at=2))
    with world:
        first = trainer.forward_backward([datum()])
        world.clock.sleep(5.0)
        with pytest.raises(UnknownRequestError, match="expired"):
            first.result()
        assert trainer.optim_step(STEP).result().metrics is not None


def _sampled(world: World, trainer: TrainingClient) -> Any:
    sampler = trainer.save_weights_and_get_sampling_client("v1").result()
    prompt = ModelInput.from_ints([1, 2])
    begin_s = world.clock.monotonic()
    sampler.sample(prompt, num_samples=1, sampling_params=PARAMS)
    return world.clock.monotonic() - begin_s


def test_a_slow_sampler_takes_its_factor_longer() -> None:
    usual = EXACT.token_s * 10
    world, trainer = open_world()
    with world:
        assert _sampled(world, trainer) == pytest.approx(usual + 2 * EXACT.latency_s)
    world, trainer = open_world(SlowSampler("sample", factor=50.0, seconds=600.0))
    with world:
        assert _sampled(world, trainer) == pytest.approx(50 * usual + 2 * EXACT.latency_s)


@pytest.mark.slow
def test_a_withheld_version_never_arrives_and_the_next_one_does() -> None:
    world, trainer = open_world(WithholdVersion())
    with world:
        future = trainer.save_weights_and_get_sampling_client("lost")
        begin_s = world.clock.monotonic()
        with pytest.raises(RuntimeError, match="version"):
            future.result()
        assert world.clock.monotonic() - begin_s < 700.0
        sampler = trainer.save_weights_and_get_sampling_client("next").result()
        prompt = ModelInput.from_ints([1, 2])
        answer = sampler.sample(prompt, num_samples=1, sampling_params=PARAMS)
        assert answer.policy_version == 2


def test_a_full_disk_fails_the_save_and_nothing_else() -> None:
    world, trainer = open_world(DiskFull("save_state", seconds=60.0))
    with world:
        trainer.forward_backward([datum()])
        with pytest.raises(RemoteOpError, match=os.strerror(errno.ENOSPC)):
            trainer.save_state("full").result()
        assert trainer.optim_step(STEP).result().metrics is not None
        world.clock.sleep(60.0)
        assert trainer.save_state("room").result().path.endswith("room")


def test_a_jump_of_the_wall_clock_makes_no_wait_longer() -> None:
    world, trainer = open_world(JumpClock("forward_backward", seconds=-1800.0))
    with world:
        before_s, begin_s = world.clock.now(), world.clock.monotonic()
        trainer.forward_backward([datum()]).result()
        assert world.clock.monotonic() - begin_s < 1.0
        assert world.clock.now() < before_s - 1700.0
