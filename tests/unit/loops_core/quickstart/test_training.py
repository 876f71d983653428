"""The loop keeps the service busy: a step is submitted before the last one's result is read."""

from __future__ import annotations

from typing import Generic, TypeVar, final

import pytest

from loops_core.clock import Clock
from loops_core.quickstart.encoding import make_datum
from loops_core.quickstart.training import StepRecord, train
from loops_core.types.datum import Datum
from loops_core.types.training import AdamParams, ForwardBackwardOutput, OptimStepResponse

ResultT = TypeVar("ResultT")


@final
class Ready(Generic[ResultT]):
    """A result that notes when it is read, and takes half a second on the clock."""

    def __init__(self, value: ResultT, name: str, log: list[str], clock: Clock) -> None:
        self._value, self._name, self._log, self._clock = value, name, log, clock

    def result(self, timeout: float | None = None) -> ResultT:
        self._log.append(f"read {self._name}")
        self._clock.sleep(0.5)
        return self._value


@final
class Diary:
    """A trainee that writes down in which order it is used."""

    def __init__(self, clock: Clock) -> None:
        self.log: list[str] = []
        self._clock = clock
        self._step = 0

    def forward_backward(self, data: list[Datum]) -> Ready[ForwardBackwardOutput]:
        self._step += 1
        self.log.append(f"submit {self._step}")
        output = ForwardBackwardOutput(loss=1.0 / self._step)
        return Ready(output, f"loss {self._step}", self.log, self._clock)

    def optim_step(self, adam_params: AdamParams) -> Ready[OptimStepResponse]:
        metrics = {
            "grad_norm": 2.0,
            "learning_rate": adam_params.learning_rate,
            "active_tokens": 3.0,
            "step": float(self._step),
        }
        response = OptimStepResponse(metrics=metrics)
        return Ready(response, f"metrics {self._step}", self.log, self._clock)


def run(diary: Diary, clock: Clock, steps: range) -> list[StepRecord]:
    shown: list[StepRecord] = []
    records = train(
        diary,
        steps=steps,
        batch_at=lambda step: [make_datum([1, 2], [3] * (step + 1))],
        learning_rate_at=lambda step: 0.1 * (step + 1),
        clock=clock,
        on_step=shown.append,
    )
    assert shown == records
    return records


def test_the_next_step_is_submitted_before_the_last_result_is_read(clock: Clock) -> None:
    diary = Diary(clock)
    run(diary, clock, range(3))
    order = [entry for entry in diary.log if not entry.startswith("read metrics")]
    assert order == [
        "submit 1",
        "submit 2",
        "read loss 1",
        "submit 3",
        "read loss 2",
        "read loss 3",
    ]


def test_a_record_says_what_its_step_did(clock: Clock) -> None:
    records = run(Diary(clock), clock, range(5, 7))
    assert [record.step for record in records] == [6, 7]
    assert [record.loss for record in records] == [1.0, 0.5]
    assert [record.learning_rate for record in records] == pytest.approx([0.6, 0.7])
    assert (records[0].grad_norm, records[0].active_tokens) == (2.0, 3)
    assert [record.tokens for record in records] == [7, 8]


def test_durations_are_between_results(clock: Clock) -> None:
    records = run(Diary(clock), clock, range(3))
    assert [record.seconds for record in records] == [1.0, 1.0, 1.0]
    assert records[0].tokens_per_second == records[0].tokens
