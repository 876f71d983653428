"""Small training programs that run in a world, or wherever a service client leads."""

from __future__ import annotations

from typing import Any, Protocol

from loops_core.client.futures import ForwardBackwardFuture
from loops_core.client.service import ServiceClient
from loops_core.client.waiting import BaseFuture
from loops_core.errors import LoopsError
from loops_core.types.datum import Datum, ModelInput
from loops_core.types.training import AdamParams

STEP = AdamParams(learning_rate=0.05)


class HasService(Protocol):
    """A world, or what can take its place."""

    def service(self) -> ServiceClient:
        """Return a client of the service."""
        ...


def datum(first: int = 1) -> Datum:
    """Return eight tokens to learn by heart."""
    tokens = [(first + 7 * position) % 64 for position in range(8)]
    return Datum(model_input=ModelInput.from_ints(tokens), loss_fn_inputs={})


def train(world: HasService, *, num_steps: int) -> list[float]:
    """Return the losses of a training whose steps follow one another."""
    trainer = world.service().create_lora_training_client("mock-tiny", rank=4, seed=11)
    losses: list[float] = []
    for number in range(num_steps):
        losses.append(trainer.forward_backward([datum(), datum(number)]).result().metrics["loss"])
        trainer.optim_step(STEP).result()
    return losses


async def train_async(world: HasService, *, num_steps: int) -> list[float]:
    """Return the losses of the same training, with passes and steps under way together."""
    trainer = await world.service().create_lora_training_client_async("mock-tiny", rank=4, seed=11)
    futures: list[ForwardBackwardFuture] = []
    for number in range(num_steps):
        futures.append(await trainer.forward_backward_async([datum(), datum(number)]))
        await trainer.optim_step_async(STEP)
    return [(await future).metrics["loss"] for future in futures]


Outcomes = list[tuple[str, object]]
"""What each operation brought: its metrics, its answer, or the name of its error."""


def train_under_trouble(world: HasService) -> Outcomes:
    """Return what a training sees that keeps several operations under way, and saves now and then.

    Numbers are those of a state that every earlier operation has changed: what ran twice, not at
    all, or out of order shows in them.
    """
    trainer = world.service().create_lora_training_client("mock-tiny", rank=4, seed=11)
    futures: list[tuple[str, BaseFuture[Any]]] = []
    for number in range(5):
        futures.append((f"pass {number}", trainer.forward_backward([datum(), datum(number)])))
        if number % 2:
            futures.append((f"more {number}", trainer.forward_backward([datum(number)])))
        futures.append((f"step {number}", trainer.optim_step(STEP)))
        if number == 1:
            futures.append(("state", trainer.save_state("state")))
        if number == 3:
            futures.append(("publish", trainer.save_weights_for_sampler("weights")))
    outcomes = [(name, _outcome_of(future)) for name, future in reversed(futures)]
    return outcomes[::-1]  # the last was waited for first: the others lay ready for a while


def _outcome_of(future: BaseFuture[Any]) -> object:
    try:
        result = future.result(timeout=900.0)
    except LoopsError as error:
        return type(error).__name__
    return getattr(result, "metrics", None) or getattr(result, "mode", None)
