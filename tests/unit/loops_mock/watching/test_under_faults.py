"""A watch in worlds with faults: it accuses no correct loop, and finds what is planted.

`LOOPS_LONG_FAULTS=1` for many more plans.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from tests.unit.loops_mock.watching.loop import ADAM, PROMPT, batch_of, draw, publish

from loops_core import ModelInput, ServiceClient
from loops_core.client.waiting import BaseFuture
from loops_mock.simulation import faults
from loops_mock.simulation.faults import FaultPlan
from loops_mock.simulation.world import World
from loops_mock.watching import Mistake, Watch

pytestmark = pytest.mark.slow

SEEDS = range(150 if "LOOPS_LONG_FAULTS" in os.environ else 4)
KINDS = (*faults.MESSAGE_FAULTS, faults.Restart, faults.SlowSampler, faults.JumpClock)


def loop(service: ServiceClient, planted: Mistake | None = None) -> None:
    """Train three steps in two minibatches each, with a reference model and checkpoints."""
    trainer = service.create_lora_training_client("mock-tiny", rank=2, seed=0)
    reference = sampler = publish(trainer)
    for step in range(3):
        if planted is not Mistake.STALE_POLICY:
            sampler = publish(trainer)
        answer = draw(sampler, seed=step)
        reference.compute_logprobs(ModelInput.from_ints([*PROMPT, *answer.sequences[0].tokens]))
        futures: list[BaseFuture[Any]] = [trainer.save_state(f"step-{step}")]
        for datum in batch_of(answer):
            passes = 2 if planted is Mistake.BATCH_TWICE else 1
            futures += [trainer.forward_backward([datum]) for _ in range(passes)]
            futures.append(trainer.optim_step(ADAM))
        if planted is Mistake.GRADIENT_NOT_APPLIED and step == 2:
            futures.append(trainer.forward_backward(batch_of(answer)))
        for future in futures[1:] if planted is Mistake.FUTURE_NOT_READ else futures:
            future.result()


def watched(seed: int, planted: Mistake | None = None) -> Watch:
    """Return the watch over a loop in a world whose faults are drawn from the seed."""
    plan = FaultPlan.seeded(seed, rate=0.15, kinds=KINDS)
    with World(seed, plan) as world, Watch() as watch:
        with world.service() as service:
            loop(service, planted)
        assert world.met
    return watch


@pytest.mark.parametrize("seed", SEEDS)
def test_a_correct_loop_is_clean_whatever_happens_to_its_calls(seed: int) -> None:
    watch = watched(seed)
    watch.assert_clean()
    watch.assert_no_batch_twice()


@pytest.mark.parametrize(
    ("planted", "count"),
    [
        (Mistake.STALE_POLICY, 2),
        (Mistake.GRADIENT_NOT_APPLIED, 1),
        (Mistake.FUTURE_NOT_READ, 3),
    ],
)
def test_a_planted_mistake_is_found_whatever_happens_to_its_calls(
    planted: Mistake, count: int
) -> None:
    findings = watched(SEEDS[-1], planted).findings()
    assert [finding.mistake for finding in findings] == [planted] * count


def test_a_repeated_pass_is_found_whatever_happens_to_its_calls() -> None:
    watch = watched(SEEDS[-1], Mistake.BATCH_TWICE)
    watch.assert_clean()
    with pytest.raises(AssertionError, match="6 mistakes"):
        watch.assert_no_batch_twice(epochs=9)
