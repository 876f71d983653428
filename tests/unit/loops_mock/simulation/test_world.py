"""A world: the real client and worker on virtual time, the same for the same seed."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from tests.simulation.programs import datum, train, train_async

from loops_core.client.training import TrainingClient
from loops_core.errors import ResultTimeoutError, UsageError
from loops_core.types.datum import ModelInput
from loops_core.types.sampling import SamplingParams
from loops_core.types.training import AdamParams
from loops_mock.simulation.durations import Durations
from loops_mock.simulation.world import World


def test_equal_seeds_have_equal_traces_and_other_seeds_others() -> None:
    digests: list[str] = []
    for seed in (1, 1, 2):
        with World(seed) as world:
            train(world, num_steps=2)
            digests.append(world.trace.digest())
    assert digests[0] == digests[1] != digests[2]


def test_blocking_and_asynchronous_programs_see_the_same_losses() -> None:
    with World(3) as world:
        losses = train(world, num_steps=2)
    with World(3) as world:
        assert world.run(train_async(world, num_steps=2)) == losses
    assert losses[1] < losses[0]


def test_an_operation_takes_its_time() -> None:
    durations = Durations(forward_backward_s=10.0, latency_s=0.25, spread=0.0)
    with World(1, durations=durations) as world:
        trainer = world.service().create_lora_training_client("mock-tiny", rank=4)
        begin_s = world.clock.monotonic()
        future = trainer.forward_backward([datum()])
        assert world.clock.monotonic() - begin_s == 0.5  # there and back
        future.result()
        assert world.clock.monotonic() - begin_s == 10.5  # accepted at 0.25, heard of at 10.25


def test_a_wait_ends_at_its_time_and_the_future_stays_usable() -> None:
    durations = Durations(forward_backward_s=100.0, spread=0.0)
    with World(1, durations=durations) as world:
        trainer = world.service().create_lora_training_client("mock-tiny", rank=4)
        begin_s = world.clock.monotonic()
        future = trainer.forward_backward([datum()])
        with pytest.raises(ResultTimeoutError):
            future.result(timeout=40.0)
        assert world.clock.monotonic() - begin_s == pytest.approx(40.0, abs=0.1)
        assert future.result().loss is not None


def test_a_callback_hears_of_a_result_that_nobody_waits_for() -> None:
    heard: list[float] = []
    with World(1) as world:
        trainer = world.service().create_lora_training_client("mock-tiny", rank=4)
        num_threads = threading.active_count()
        trainer.forward_backward([datum()]).add_done_callback(
            lambda _: heard.append(world.clock.monotonic())
        )
        world.clock.sleep(10.0)
        assert threading.active_count() == num_threads
    assert len(heard) == 1
    assert heard[0] < 10.0


def test_many_clients_share_the_world() -> None:
    async def one(trainer: TrainingClient) -> float:
        future = await trainer.forward_backward_async([datum()])
        await trainer.optim_step_async(AdamParams(learning_rate=0.1))
        return (await future).metrics["loss"]

    with World(5) as world:
        clients = [world.service().create_lora_training_client("mock-tiny") for _ in range(3)]
        begin_s = world.clock.monotonic()

        async def work() -> list[float]:
            return await asyncio.gather(*map(one, clients))

        assert len(set(world.run(work()))) == 1  # fresh adapters change nothing yet
        assert world.clock.monotonic() - begin_s < 1.0  # each has a trainer of its own


def test_published_weights_are_sampled_from_once_they_are_deployed() -> None:
    durations = Durations(deploy_s=7.0, spread=0.0)
    with World(1, durations=durations) as world:
        trainer = world.service().create_lora_training_client("mock-tiny", rank=4)
        trainer.forward_backward([datum()])
        trainer.optim_step(AdamParams(learning_rate=0.1))
        published = trainer.save_weights_and_get_sampling_client("v1")
        sampler = published.result()
        params = SamplingParams(max_tokens=4)
        answer = sampler.sample(ModelInput.from_ints([1, 2]), num_samples=1, sampling_params=params)
        assert answer.policy_version == 1
        (deploy,) = world.trace.events("deploy")
        (end,) = (e for e in world.trace.events("end") if e.about == "save_weights_for_sampler")
        assert deploy.time_s - end.time_s == pytest.approx(7.0)


def test_a_second_thread_is_refused() -> None:
    errors: list[Any] = []
    with World(1) as world:
        trainer = world.service().create_lora_training_client("mock-tiny", rank=4)

        def use() -> None:
            try:
                trainer.forward_backward([datum()])
            except UsageError as error:
                errors.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    assert "second thread" in str(errors[0])


def test_a_blocking_call_inside_the_world_s_loop_is_refused() -> None:
    with World(1) as world:
        trainer = world.service().create_lora_training_client("mock-tiny", rank=4)

        async def work() -> None:
            trainer.forward_backward([datum()])

        with pytest.raises(UsageError, match="_async form"):
            world.run(work())


def test_a_closed_world_refuses_calls_and_closes_twice() -> None:
    world = World(1)
    trainer = world.service().create_lora_training_client("mock-tiny", rank=4)
    world.close()
    world.close()
    with pytest.raises(UsageError):
        trainer.forward_backward([datum()])


def test_the_wall_clock_is_the_same_in_every_world() -> None:
    with World(1) as first, World(2) as second:
        assert first.clock.now() == second.clock.now()
