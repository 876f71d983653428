"""Batches that are trained on more often than was meant."""

from __future__ import annotations

import pytest
from tests.unit.loops_mock.watching.loop import ADAM, datum, train

from loops_core import Datum, TensorData, TrainingClient
from loops_core.errors import UsageError
from loops_mock.watching import Watch

ONE, TWO, THREE = (datum([n, n + 1, n + 2]) for n in (1, 11, 21))


def test_different_batches_are_fine(watch: Watch, trainer: TrainingClient) -> None:
    train(trainer, [ONE], [TWO])
    train(trainer, [THREE])
    watch.assert_no_batch_twice()


def test_the_same_gradients_twice_in_one_step_are_found_whatever_the_epochs(
    watch: Watch, trainer: TrainingClient
) -> None:
    train(trainer, [ONE, TWO], [ONE, TWO])
    with pytest.raises(AssertionError, match=r"forward_backward #2 .* as forward_backward #1"):
        watch.assert_no_batch_twice(epochs=5)


def test_a_repetition_under_its_key_is_one_pass(watch: Watch, trainer: TrainingClient) -> None:
    for _ in range(2):
        trainer.forward_backward([ONE], idempotency_key="first").result()
    trainer.optim_step(ADAM).result()
    watch.assert_no_batch_twice()
    watch.assert_clean()


def test_epochs_are_counted(watch: Watch, trainer: TrainingClient) -> None:
    for _ in range(2):
        train(trainer, [ONE])
        train(trainer, [TWO])
    watch.assert_no_batch_twice(epochs=2)
    with pytest.raises(AssertionError, match=r"2 mistakes[\s\S]*for the 2\. time"):
        watch.assert_no_batch_twice()


def test_overlapping_batches_are_found_datum_by_datum(
    watch: Watch, trainer: TrainingClient
) -> None:
    train(trainer, [ONE, TWO])
    train(trainer, [TWO, THREE])
    watch.assert_no_batch_twice()
    with pytest.raises(AssertionError, match=r"trains on data\[0\]"):
        watch.assert_no_batch_twice(data=True)


def test_a_resumed_run_may_repeat_what_was_lost(watch: Watch, trainer: TrainingClient) -> None:
    path = trainer.save_state("a").result().path
    train(trainer, [ONE])
    trainer.load_state_with_optimizer(path).result()
    train(trainer, [ONE])
    watch.assert_no_batch_twice()


def test_other_inputs_of_the_same_tokens_are_another_batch(
    watch: Watch, trainer: TrainingClient
) -> None:
    for weight in (0.5, 1.0):
        weights = TensorData.from_list([weight, 1.0])
        inputs = {**ONE.loss_fn_inputs, "weights": weights}
        train(trainer, [Datum(model_input=ONE.model_input, loss_fn_inputs=inputs)])
    watch.assert_no_batch_twice()


def test_a_forward_pass_trains_on_nothing(watch: Watch, trainer: TrainingClient) -> None:
    trainer.forward([ONE]).result()
    train(trainer, [ONE])
    watch.assert_no_batch_twice()


def test_no_epochs_at_all_are_refused(watch: Watch) -> None:
    with pytest.raises(UsageError, match="epochs is 0"):
        watch.assert_no_batch_twice(epochs=0)
