"""Data that do not fit what was sampled are found; data that fit are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from tests.unit.loops_mock.watching.loop import ADAM, PROMPT, draw, publish

from loops_core import Datum, ModelInput, SampledSequence, TensorData, TrainingClient
from loops_mock.watching import Mistake, Watch

SHIFTS = ("targets", "logprobs", "advantages")
Make = Callable[[list[int], SampledSequence], Datum]


def make(*, targets: int = 0, logprobs: int = 0, advantages: int = 0, whole: bool = False) -> Make:
    """Return what makes a datum of a sampled sequence; each input may be shifted by one."""

    def datum(prompt: list[int], sequence: SampledSequence) -> Datum:
        tokens = [*prompt, *sequence.tokens]
        count = len(tokens) if whole else len(tokens) - 1
        ahead = len(prompt) - 1
        rows = {
            "target_tokens": ([*tokens[1:], -100], targets, "int64"),
            "logprobs": ([0.0] * ahead + [*(sequence.logprobs or []), 0.0], logprobs, "float32"),
            "advantages": (
                [0.0] * ahead + [1.5] * len(sequence.tokens) + [0.0],
                advantages,
                "float32",
            ),
        }
        inputs = {
            name: TensorData.from_list(_shifted(values, by)[:count], dtype)
            for name, (values, by, dtype) in rows.items()
        }
        return Datum(model_input=ModelInput.from_ints(tokens[:count]), loss_fn_inputs=inputs)

    return datum


def _shifted(values: Sequence[float], by: int) -> list[float]:
    if by > 0:
        return [values[0], *values[:-1]]
    return [*values[1:], values[-1]] if by < 0 else [*values]


def train(trainer: TrainingClient, make_datum: Make) -> None:
    answer = draw(publish(trainer))
    data = [make_datum(PROMPT, sequence) for sequence in answer.sequences]
    trainer.forward_backward(data, "importance_sampling").result()
    trainer.optim_step(ADAM).result()


@pytest.mark.parametrize("whole", [False, True])
def test_data_that_fit_are_no_mistake(watch: Watch, trainer: TrainingClient, whole: bool) -> None:
    train(trainer, make(whole=whole))
    watch.assert_data_aligned()
    watch.assert_clean()


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("by", "way"), [(1, "late"), (-1, "early")])
@pytest.mark.parametrize("what", ["target_tokens", "logprobs", "advantages"])
def test_each_input_that_is_shifted_is_found_and_named(
    watch: Watch, trainer: TrainingClient, what: str, by: int, way: str, whole: bool
) -> None:
    shifts = {name: by if name.startswith(what[:6]) else 0 for name in SHIFTS}
    train(trainer, make(whole=whole, **shifts))
    with pytest.raises(AssertionError, match=f"{what} come one position too {way}") as told:
        watch.assert_data_aligned()
    assert "test_alignment.py" in str(told.value), "it tells the line"
    (finding,) = watch.findings()
    assert finding.mistake is Mistake.SHIFTED_DATA


def test_everything_shifted_together_is_found(watch: Watch, trainer: TrainingClient) -> None:
    train(trainer, make(logprobs=1, advantages=1))
    assert [each.mistake for each in watch.findings()] == [Mistake.SHIFTED_DATA]


def test_tokens_that_follow_a_sample_are_no_part_of_it(
    watch: Watch, trainer: TrainingClient
) -> None:
    first = draw(publish(trainer)).sequences[0]
    tokens = [*PROMPT, *first.tokens, 9, 8]
    ahead = len(PROMPT) - 1
    behind = len(tokens) - 1 - ahead - len(first.tokens)
    inputs = {
        "target_tokens": TensorData.from_list(tokens[1:], "int64"),
        "logprobs": TensorData.from_list(
            [0.0] * ahead + [*(first.logprobs or [])] + [0.0] * behind
        ),
        "advantages": TensorData.from_list(
            [0.0] * ahead + [1.0] * len(first.tokens) + [0.0] * behind
        ),
    }
    datum = Datum(model_input=ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs)
    trainer.forward_backward([datum], "importance_sampling").result()
    trainer.optim_step(ADAM).result()
    watch.assert_clean()


def test_data_of_elsewhere_are_not_judged(watch: Watch, trainer: TrainingClient) -> None:
    sequence = SampledSequence(tokens=[40, 41, 42], logprobs=[-1.0, -2.0, -3.0])
    draw(publish(trainer))
    trainer.forward_backward([make(logprobs=1)([7, 7], sequence)], "importance_sampling").result()
    trainer.optim_step(ADAM).result()
    watch.assert_clean()


def test_log_probabilities_that_were_computed_anew_are_no_mistake(
    watch: Watch, trainer: TrainingClient
) -> None:
    def rescored(prompt: list[int], sequence: SampledSequence) -> Datum:
        other = [each - 0.3 for each in sequence.logprobs or []]
        return make()(prompt, sequence.model_copy(update={"logprobs": other}))

    train(trainer, rescored)
    watch.assert_clean()
