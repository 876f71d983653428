"""The training loop: the next step is submitted before the result of the last one is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from loops_core.clock import Clock
from loops_core.types.datum import Datum
from loops_core.types.training import AdamParams, ForwardBackwardOutput, OptimStepResponse

RESULT_TIMEOUT_S: Final = 600.0

ResultT_co = TypeVar("ResultT_co", covariant=True)


class Pending(Protocol[ResultT_co]):
    """A submitted operation."""

    def result(self, timeout: float | None = None) -> ResultT_co:
        """Return the operation's result, or raise its error."""
        ...


class Trainee(Protocol):
    """What the loop uses of a TrainingClient."""

    def forward_backward(self, data: list[Datum]) -> Pending[ForwardBackwardOutput]:
        """Submit a forward and backward pass."""
        ...

    def optim_step(self, adam_params: AdamParams) -> Pending[OptimStepResponse]:
        """Submit an optimizer step."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """What is known of one step; a line of `metrics.jsonl`.

    Attributes:
        step: counted from 1.
        loss: mean negative log-likelihood over the active positions of the batch, in nats.
        grad_norm: global norm of the normalised gradient, before clipping.
        learning_rate: the one that was used.
        active_tokens: positions with a target.
        tokens: positions that were read, masked ones included.
        seconds: since the result before; the first includes compilation.
        tokens_per_second: tokens / seconds.
    """

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    active_tokens: int
    tokens: int
    seconds: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class _Submitted:
    """A step under way."""

    step: int
    tokens: int
    forward_backward: Pending[ForwardBackwardOutput]
    optim_step: Pending[OptimStepResponse]


def train(
    client: Trainee,
    *,
    steps: range,
    batch_at: Callable[[int], list[Datum]],
    learning_rate_at: Callable[[int], float],
    clock: Clock,
    on_step: Callable[[StepRecord], None],
) -> list[StepRecord]:
    """Return a record of every step, made while the service works on the next.

    Args:
        client: whom to train.
        steps: numbers of the steps to run, counted from 0.
        batch_at: the examples of a step.
        learning_rate_at: the learning rate of a step.
        clock: where durations come from.
        on_step: called with each record as it is made.
    """
    records: list[StepRecord] = []
    waiting: list[_Submitted] = []
    last_s = clock.monotonic()

    def read_oldest() -> None:
        nonlocal last_s
        submitted = waiting.pop(0)
        record = _read(submitted, since_s=last_s, clock=clock)
        last_s += record.seconds
        records.append(record)
        on_step(record)

    for step in steps:
        data = batch_at(step)
        adam = AdamParams(learning_rate=learning_rate_at(step))
        num_tokens = sum(datum.model_input.length for datum in data)
        passes = client.forward_backward(data)
        waiting.append(_Submitted(step, num_tokens, passes, client.optim_step(adam)))
        if len(waiting) > 1:
            read_oldest()
    while waiting:
        read_oldest()
    return records


def _read(submitted: _Submitted, *, since_s: float, clock: Clock) -> StepRecord:
    output = submitted.forward_backward.result(timeout=RESULT_TIMEOUT_S)
    metrics = submitted.optim_step.result(timeout=RESULT_TIMEOUT_S).metrics or {}
    seconds = clock.monotonic() - since_s
    return StepRecord(
        step=submitted.step + 1,
        loss=output.loss,
        grad_norm=metrics["grad_norm"],
        learning_rate=metrics["learning_rate"],
        active_tokens=round(metrics["active_tokens"]),
        tokens=submitted.tokens,
        seconds=seconds,
        tokens_per_second=submitted.tokens / seconds if seconds > 0 else 0.0,
    )
