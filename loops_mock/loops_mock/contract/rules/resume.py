"""Rules of resuming: what comes back with a checkpoint, bit for bit, and what starts anew."""

from __future__ import annotations

from loops_core import AdamParams
from loops_mock.contract.probes import (
    ADAM,
    BATCH,
    DATUM,
    apply,
    expect_failed,
    expect_moved,
    expect_near,
    expect_same,
    look,
    step,
)
from loops_mock.contract.rule import expect, rule
from loops_mock.contract.subject import Subject

_TRAIN = {"train"}
_EXACT = AdamParams(learning_rate=2e-2, eps=1e-8, grad_clip_norm=0.0)


@rule(
    "resume.with-optimizer-goes-on-bit-for-bit",
    title="load_state_with_optimizer goes on exactly as if nothing had happened",
    section="6.3",
    needs=_TRAIN,
)
def with_optimizer_goes_on_bit_for_bit(subject: Subject) -> None:
    """Step, save, step on; go back, and step on again."""
    trainer = subject.trainer()
    step(trainer, BATCH)
    path = trainer.save_state("middle").result().path
    first = dict(step(trainer))
    there = look(trainer)
    trainer.load_state_with_optimizer(path)
    again = dict(step(trainer))
    expect_same("grad_norm is the same", again["grad_norm"], first["grad_norm"])
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
    "resume.with-optimizer-brings-the-moments-back",
    title="load_state_with_optimizer brings Adam's moments back",
    section="6.3",
    needs=_TRAIN,
)
def with_optimizer_brings_the_moments_back(subject: Subject) -> None:
    """A step of learning rate 0 moves the moments alone: then they alone tell the loads apart."""
    trainer = subject.trainer()
    step(trainer, [BATCH[1]], _EXACT.model_copy(update={"learning_rate": 0.0}))
    path = trainer.save_state("moments").result().path
    step(trainer, [DATUM], _EXACT)
    there = look(trainer)
    trainer.load_state(path)
    step(trainer, [DATUM], _EXACT)
    expect_moved("fresh moments lead elsewhere", look(trainer), there)


@rule(
    "resume.without-optimizer-starts-it-anew",
    title="load_state takes the weights alone: step 0, and moments of a first step",
    section="6.3",
    needs=_TRAIN,
)
def without_optimizer_starts_it_anew(subject: Subject) -> None:
    """After steps of learning rate 0 the weights are fresh: a loaded run steps like a new one."""
    used, fresh = subject.trainer(), subject.trainer()
    step(used, [BATCH[1]], _EXACT.model_copy(update={"learning_rate": 0.0}))
    path = used.save_state("weights").result().path
    loaded = used.load_state(path).result().step
    expect(loaded == 0, "the load tells step 0", seen=loaded)
    one, two = step(used, [DATUM], _EXACT), step(fresh, [DATUM], _EXACT)
    expect(one["step"] == 1.0, "steps are counted from 1", seen=one)
    expect_near("grad_norm is that of a new run", one["grad_norm"], two["grad_norm"])
    expect_near("both have taken a first step", look(used), look(fresh), atol=1e-3)


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
    title="create_training_client_from_state gives a new run with the weights, at step 0",
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
        counted = step(other)["step"]
        expect(counted == 1.0, "its optimizer starts anew", seen=counted)


@rule(
    "resume.a-new-client-goes-on-bit-for-bit",
    title="create_training_client_from_state_with_optimizer gives a run that goes on exactly",
    section="6.3",
    needs=_TRAIN,
)
def a_new_client_goes_on_bit_for_bit(subject: Subject) -> None:
    """Step on in the old run and in the new one."""
    trainer = subject.trainer()
    step(trainer, BATCH)
    path = trainer.save_state("start").result().path
    with subject.service().create_training_client_from_state_with_optimizer(path) as other:
        one, two = step(trainer), step(other)
        expect(two["step"] == 2.0, "its count goes on", seen=two["step"])
        expect_same("grad_norm is the same", two["grad_norm"], one["grad_norm"])
        expect_same("both have taken the same step", look(other), look(trainer))


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
