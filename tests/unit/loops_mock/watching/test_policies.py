"""Samples from policies that the trainer has left behind, and training on them."""

from __future__ import annotations

import pytest
from tests.unit.loops_mock.watching.loop import (
    ADAM,
    PROMPT,
    batch_of,
    datum,
    draw,
    publish,
    train,
)

from loops_core import AdamParams, ModelInput, ServiceClient, TrainingClient
from loops_core.errors import UsageError
from loops_mock.watching import Watch


def test_a_loop_that_publishes_after_each_step_is_on_policy(
    watch: Watch, trainer: TrainingClient
) -> None:
    for step in range(3):
        train(trainer, batch_of(draw(publish(trainer), seed=step)))
    watch.assert_on_policy()
    watch.assert_clean()


def test_a_sampler_that_is_made_once_is_found(watch: Watch, trainer: TrainingClient) -> None:
    sampler = publish(trainer)
    for step in range(3):
        train(trainer, batch_of(draw(sampler, seed=step)))
    with pytest.raises(AssertionError, match="2 mistakes") as caught:
        watch.assert_on_policy()
    assert "sample #2" in str(caught.value)
    assert "1 optimizer step behind" in str(caught.value)
    assert "2 optimizer steps behind" in str(caught.value)
    watch.assert_on_policy(max_lag=2)
    with pytest.raises(AssertionError, match="1 mistake"):
        watch.assert_on_policy(max_lag=1)


def test_a_publish_before_the_step_is_found(watch: Watch, trainer: TrainingClient) -> None:
    answer = draw(publish(trainer))
    passed = trainer.forward_backward(batch_of(answer))
    sampler = publish(trainer)
    trainer.optim_step(ADAM).result()
    passed.result()
    draw(sampler, seed=1)
    with pytest.raises(AssertionError, match="publish after the optimizer step"):
        watch.assert_on_policy()


def test_training_on_the_batch_before_is_found(watch: Watch, trainer: TrainingClient) -> None:
    batches = [batch_of(draw(publish(trainer), seed=0))]
    train(trainer, [datum([9, 8, 7])])
    batches.append(batch_of(draw(publish(trainer), seed=1)))
    train(trainer, batches[-2])
    with pytest.raises(AssertionError, match=r"trains on samples .* 1 policy behind"):
        watch.assert_on_policy()
    watch.assert_on_policy(max_lag=1)


def test_several_steps_on_one_policys_samples_are_on_policy(
    watch: Watch, trainer: TrainingClient
) -> None:
    for step in range(2):
        first, second = batch_of(draw(publish(trainer), seed=step))
        train(trainer, [first])
        train(trainer, [second])
    watch.assert_on_policy()


def test_an_old_checkpoint_may_be_sampled_but_not_trained_on(
    watch: Watch, service: ServiceClient, trainer: TrainingClient
) -> None:
    path = trainer.save_weights_for_sampler("old").result().path
    old = service.create_sampling_client(model_path=path)
    train(trainer, [datum([9, 8, 7])])
    answer = draw(old)
    watch.assert_on_policy()
    train(trainer, batch_of(answer))
    with pytest.raises(AssertionError, match=r"forward_backward #2 .*trains on samples"):
        watch.assert_on_policy()


def test_a_reference_model_may_score_what_it_did_not_draw(
    watch: Watch, trainer: TrainingClient
) -> None:
    reference = publish(trainer)
    train(trainer, [datum([9, 8, 7])])
    reference.compute_logprobs(ModelInput.from_ints(PROMPT))
    watch.assert_on_policy()


def test_publishing_unchanged_weights_makes_nothing_old(
    watch: Watch, trainer: TrainingClient
) -> None:
    answer = draw(publish(trainer))
    publish(trainer)
    train(trainer, batch_of(answer))
    watch.assert_on_policy()


def test_what_is_drawn_only_later_is_not_what_was_trained_on(
    watch: Watch, trainer: TrainingClient
) -> None:
    old = draw(publish(trainer))
    trainer.forward_backward([datum([9, 8, 7])]).result()
    trainer.optim_step(AdamParams(learning_rate=0.0)).result()
    sampler = publish(trainer)
    trainer.forward_backward(batch_of(old)).result()
    assert draw(sampler).sequences == old.sequences
    with pytest.raises(AssertionError, match="forward_backward #2"):
        watch.assert_on_policy()


def test_the_same_tokens_drawn_anew_are_fresh(watch: Watch, trainer: TrainingClient) -> None:
    old = draw(publish(trainer))
    trainer.forward_backward([datum([9, 8, 7])]).result()
    trainer.optim_step(AdamParams(learning_rate=0.0)).result()  # moves nothing, so draws the same
    anew = draw(publish(trainer))
    assert anew.sequences == old.sequences
    train(trainer, batch_of(anew))
    watch.assert_on_policy()


def test_a_negative_lag_is_refused(watch: Watch) -> None:
    with pytest.raises(UsageError, match="max_lag is -1"):
        watch.assert_on_policy(max_lag=-1)
