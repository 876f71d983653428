"""Rules of resuming: what comes back with a checkpoint, bit for bit, and what starts anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from loops_core import AdamParams
from loops_mock.contract.probes import (
    ADAM,
    BATCH,
    DATUM,
    TEXT,
    apply,
    expect_failed,
    expect_moved,
    expect_near,
    expect_same,
    look,
    make_datum,
    step,
)
from loops_mock.contract.rule import expect, rule
from loops_mock.contract.subject import Subject

_TRAIN = {"train"}
_EXACT: Final = AdamParams(learning_rate=2e-2, eps=1e-8, grad_clip_norm=0.0)


def _told(metrics: Mapping[str, float]) -> list[float]:
    return [metrics["step"], metrics["grad_norm"]]


@rule(
    "resume.with-optimizer-goes-on-bit-for-bit",
    title="load_state_with_optimizer goes on exactly as if nothing had happened",
    section="6.3",
    needs=_TRAIN,
)
def with_optimizer_goes_on_bit_for_bit(subject: Subject) -> None:
    """Step, pass, save, step; go back, and step again: weights, moments and gradients are there."""
    trainer = subject.trainer()
    step(trainer, BATCH)
    trainer.forward_backward([DATUM])
    path = trainer.save_state("middle").result().path
    first, there = apply(trainer), look(trainer)
    trainer.load_state_with_optimizer(path)
    again = apply(trainer)
    expect_same("step and grad_norm are the same", _told(again), _told(first))
    expect_same("the weights are the same", look(trainer), there)


@rule(
    "resume.with-optimizer-brings-the-step-back",
    title="load_state_with_optimizer returns the step of the save, and the count goes on from it",
    section="6.3",
    needs=_TRAIN,
)
def with_optimizer_brings_the_step_back(subject: Subject) -> None:
    """Save after two steps, and load into a fresh run."""
    one, two = subject.trainer(), subject.trainer()
    step(one)
    step(one)
    path = one.save_state("two").result().path
    loaded = two.load_state_with_optimizer(path).result().step
    expect(loaded == 2, "the load tells the step", seen=loaded)
    counted = step(two)["step"]
    expect(counted == 3.0, "the next step is the third", seen=counted)


@rule(
    "resume.without-optimizer-starts-it-anew",
    title="load_state takes the weights alone: step 0, and moments of a first step",
    section="6.3",
    needs=_TRAIN,
)
def without_optimizer_starts_it_anew(subject: Subject) -> None:
    """After g, a gradient of -beta1 * g makes no step; with fresh moments it makes a first one."""
    trainer = subject.trainer()
    adam = _EXACT.model_copy(update={"learning_rate": 0.0, "beta1": 0.5, "beta2": 0.5})
    before = trainer.forward_backward([DATUM]).result().loss
    trainer.optim_step(adam)
    loaded = trainer.load_state(trainer.save_state("weights").result().path).result().step
    data = [make_datum(TEXT, weights=[-0.5] * 8)]
    counted = step(trainer, data, adam.model_copy(update={"learning_rate": 1e-2}))["step"]
    expect([loaded, counted] == [0, 1], "steps start anew", seen=[loaded, counted])
    after = trainer.forward([DATUM]).result().loss
    expect_moved("the moments are those of a first step", after, before)


@rule(
    "resume.without-optimizer-has-the-weights",
    title="load_state brings back the weights of the save, to the last bit",
    section="6.3",
    needs=_TRAIN,
)
def without_optimizer_has_the_weights(subject: Subject) -> None:
    """Save a trained adapter, start over, and load it."""
    trainer = subject.trainer()
    step(trainer, BATCH)
    there = look(trainer)
    path = trainer.save_state("weights").result().path
    trainer.init_trainer_server(4)
    trainer.load_state(path).result()
    expect_same("the log-probabilities are those of the save", look(trainer), there)


@rule(
    "resume.waiting-gradients-are-saved",
    title="Gradients that wait for their step are part of a resumable checkpoint",
    section="6.3",
    needs=_TRAIN,
)
def waiting_gradients_are_saved(subject: Subject) -> None:
    """Save between a pass and its step, and step in another run."""
    one, two = subject.trainer(), subject.trainer(seed=8)
    one.forward_backward([DATUM])
    path = one.save_state("pending").result().path
    here = apply(one)
    two.load_state_with_optimizer(path)
    there = apply(two)
    expect_same("grad_norm is the same", there["grad_norm"], here["grad_norm"])
    expect_same("both have taken the same step", look(two), look(one))


@rule(
    "resume.a-load-drops-waiting-gradients",
    title="A load replaces gradients that wait: they were of other weights",
    section="6.3",
    needs=_TRAIN,
)
def a_load_drops_waiting_gradients(subject: Subject) -> None:
    """Load between a pass and its step: there is nothing to step with."""
    trainer = subject.trainer()
    path = trainer.save_state("clean").result().path
    for load in (trainer.load_state, trainer.load_state_with_optimizer):
        trainer.forward_backward([DATUM])
        load(path)
        expect_failed("there are no gradients", lambda: trainer.optim_step(ADAM).result())


@rule(
    "resume.a-new-client-has-the-weights",
    title="create_training_client_from_state gives a new run with the checkpoint's weights",
    section="6.3",
    needs=_TRAIN,
)
def a_new_client_has_the_weights(subject: Subject) -> None:
    """Save a trained adapter and open a run from it."""
    trainer = subject.trainer()
    step(trainer, BATCH)
    path = trainer.save_state("start").result().path
    with subject.service().create_training_client_from_state(path) as other:
        expect(other.run_id != trainer.run_id, "it is another run", seen=other.run_id)
        expect_same("the weights are those of the save", look(other), look(trainer))


@rule(
    "resume.a-new-client-has-the-optimizer",
    title="create_training_client_from_state_with_optimizer gives a new run with moments and count",
    section="6.3",
    needs=_TRAIN,
)
def a_new_client_has_the_optimizer(subject: Subject) -> None:
    """After g and learning rate 0, a gradient of -beta1 * g leaves no first moment, and no step."""
    trainer = subject.trainer()
    adam = _EXACT.model_copy(update={"learning_rate": 0.0, "beta1": 0.5, "beta2": 0.5})
    before = trainer.forward_backward([DATUM]).result().loss
    trainer.optim_step(adam)
    path = trainer.save_state("start").result().path
    with subject.service().create_training_client_from_state_with_optimizer(path) as other:
        data = [make_datum(TEXT, weights=[-0.5] * 8)]
        counted = step(other, data, adam.model_copy(update={"learning_rate": 5e-2}))["step"]
        expect(counted == 2.0, "its count goes on", seen=counted)
        after = other.forward([DATUM]).result().loss
        expect_near("its moments were there", after, before, atol=1e-3)


@rule(
    "resume.a-new-client-has-the-rank",
    title="A run that starts from a checkpoint has the checkpoint's rank",
    section="6.3",
    needs=_TRAIN,
)
def a_new_client_has_the_rank(subject: Subject) -> None:
    """Save rank 2, and open a run from it without a rank."""
    path = subject.trainer(rank=2).save_state("ranked").result().path
    with subject.service().create_training_client_from_state(path) as other:
        told = other.get_info().lora_rank
        expect(told == 2, "the client tells the rank", seen=told)
        other.save_state("again").result()
        ranks = [found.lora_adapter_config.rank for found in other.list_checkpoints()]
        expect(ranks == [2], "its checkpoints have the rank", seen=ranks)
