"""Rules of publishing: which weights a sampler answers with, and since when."""

from __future__ import annotations

import threading

from loops_core import ModelInput, SamplingParams
from loops_mock.contract.probes import (
    ADAM,
    BATCH,
    DATUM,
    PROMPT,
    ROUNDING,
    apply,
    expect_moved,
    expect_near,
    expect_same,
    look,
    publish,
    score,
    step,
)
from loops_mock.contract.rule import expect, rule
from loops_mock.contract.subject import Subject

_BOTH = {"train", "sample"}


@rule(
    "publishing.sampler-and-trainer-agree",
    title="A published adapter gives the trainer's log-probabilities",
    section="6.4",
    needs=_BOTH,
)
def sampler_and_trainer_agree(subject: Subject) -> None:
    """Step, publish, and score one text with both."""
    trainer = subject.trainer()
    fresh = look(trainer)
    step(trainer)
    there = look(trainer)
    expect_moved("the step moves the weights", there, fresh)
    expect_near("the sampler has the trainer's weights", score(publish(trainer)), there)


@rule(
    "publishing.new-weights-answer-at-once",
    title="A client from save_weights_and_get_sampling_client never sees older weights",
    section="6.4",
    needs=_BOTH,
)
def new_weights_answer_at_once(subject: Subject) -> None:
    """Publish, look with that client, step, publish again, and look with the new client."""
    trainer = subject.trainer()
    before = score(publish(trainer, "one"))
    step(trainer)
    there = look(trainer)
    expect_moved("the step moves the weights", there, before)
    expect_near("the newer weights answer", score(publish(trainer, "two")), there)


@rule(
    "publishing.older-clients-get-no-older-weights",
    title="A client of an earlier publication is answered by its weights or newer published ones",
    section="6.5",
    needs=_BOTH,
)
def older_clients_get_no_older_weights(subject: Subject) -> None:
    """Publish twice, and look with the first client."""
    trainer = subject.trainer()
    first, one = publish(trainer, "one"), look(trainer)
    step(trainer)
    publish(trainer, "two")
    two, seen = look(trainer), score(first)
    is_one, is_two = (abs(seen - known).max() < 1e-3 for known in (one, two))
    expect(is_one or is_two, "the weights are one of the two published", seen=seen.tolist())


@rule(
    "publishing.training-on-changes-no-sampler",
    title="Weights that are not published are not sampled",
    section="6.4",
    needs=_BOTH,
)
def training_on_changes_no_sampler(subject: Subject) -> None:
    """Publish, and step without publishing."""
    trainer = subject.trainer()
    sampler = publish(trainer)
    before = score(sampler)
    step(trainer)
    expect_moved("the step moves the trainer", look(trainer), before)
    expect_near("the sampler has the published weights", score(sampler), before)


@rule(
    "publishing.a-pinned-client-keeps-its-weights",
    title="A client of a checkpoint's path keeps its weights, whatever is published later",
    section="6.5",
    needs=_BOTH,
)
def a_pinned_client_keeps_its_weights(subject: Subject) -> None:
    """Open a client of the first publication, step, and publish again."""
    trainer = subject.trainer()
    path = trainer.save_weights_for_sampler("first").result().path
    pinned = subject.service().create_sampling_client(model_path=path)
    before = score(pinned)
    step(trainer)
    newest = publish(trainer, "second")
    expect_same("the pinned client answers as before", score(pinned), before)
    expect_moved("the newest is another one", score(newest), before)
    expect(pinned.checkpoint_path == path, "it tells its path", seen=pinned.checkpoint_path)


@rule(
    "publishing.a-path-can-be-sampled-later",
    title="An older publication can be sampled by its path after newer ones",
    section="6.5",
    needs=_BOTH,
)
def a_path_can_be_sampled_later(subject: Subject) -> None:
    """Publish twice, and open the first by its path."""
    trainer = subject.trainer()
    step(trainer)
    first, there = trainer.save_weights_for_sampler("first").result().path, look(trainer)
    step(trainer)
    publish(trainer, "second")
    pinned = subject.service().create_sampling_client(model_path=first)
    expect_near("the first weights answer", score(pinned), there)


@rule(
    "publishing.the-base-model-stays",
    title="A sampler of the base model is not touched by what runs publish",
    section="6.5",
    needs=_BOTH,
)
def the_base_model_stays(subject: Subject) -> None:
    """Look before and after a publication."""
    base = subject.service().create_sampling_client(base_model=subject.base_model)
    before = score(base)
    trainer = subject.trainer()
    step(trainer)
    expect_moved("the adapter is published", score(publish(trainer)), before)
    expect_same("the base model answers as before", score(base), before)


@rule(
    "publishing.changes-no-training",
    title="Publishing leaves weights, moments and waiting gradients as they are",
    section="6.4",
    needs=_BOTH,
)
def changes_no_training(subject: Subject) -> None:
    """Publish between a pass and its step."""
    published, plain = subject.trainer(), subject.trainer()
    published.forward_backward([DATUM])
    published.save_weights_for_sampler("between")
    one, two = apply(published), step(plain)
    expect_near("grad_norm is the same", one["grad_norm"], two["grad_norm"])
    expect_near("both have taken the same step", look(published), look(plain))


@rule(
    "publishing.takes-the-weights-of-its-place",
    title="A publication has the weights of its place in the order of calls",
    section="2.4",
    needs=_BOTH,
)
def takes_the_weights_of_its_place(subject: Subject) -> None:
    """Submit step, publication and a second step before anything is read."""
    trainer = subject.trainer()
    step(trainer)
    there = look(trainer)
    saved = trainer.save_weights_for_sampler("place")
    trainer.forward_backward(list(BATCH))
    trainer.optim_step(ADAM).result()
    pinned = subject.service().create_sampling_client(model_path=saved.result().path)
    expect_near("the second step is not in it", score(pinned), there)


@rule(
    "publishing.loaded-weights-can-be-published",
    title="After a load the loaded weights are what is published",
    section="6.4",
    needs=_BOTH,
)
def loaded_weights_can_be_published(subject: Subject) -> None:
    """Save, step, load, publish at once."""
    trainer = subject.trainer()
    step(trainer)
    there = look(trainer)
    path = trainer.save_state("there").result().path
    step(trainer)
    trainer.load_state(path)
    expect_near("the sampler has the loaded weights", score(publish(trainer)), there)


@rule(
    "publishing.samples-follow-the-weights",
    title="Samples come from the published weights, not from the base model",
    section="6.4",
    needs=_BOTH,
)
def samples_follow_the_weights(subject: Subject) -> None:
    """Train a continuation of the prompt until it is the most likely, and draw it."""
    trainer = subject.trainer()
    for _ in range(3):
        step(trainer, [DATUM], ADAM.model_copy(update={"learning_rate": 1e-2}))
    sampler = publish(trainer)
    wish = SamplingParams(max_tokens=1, temperature=0.0)
    answer = sampler.sample(ModelInput.from_ints(list(PROMPT)), 1, wish)
    (sequence,) = answer.sequences
    text = [*PROMPT, *sequence.tokens]
    here = score(sampler, text)[-1]
    expect_near("the token has the adapter's logprob", (sequence.logprobs or [0.0])[0], here)


@rule(
    "publishing.reaches-the-live-sampler",
    title="save_weights_for_sampler swaps the paired sampler to the new weights, soon",
    section="6.4",
    needs=_BOTH,
)
def reaches_the_live_sampler(subject: Subject) -> None:
    """Look with the client of an earlier publication until it has the newer weights."""
    trainer = subject.trainer()
    sampler = publish(trainer, "one")
    step(trainer)
    trainer.save_weights_for_sampler("two").result()
    there = look(trainer)
    seen = score(sampler)
    for pause_s in (0.3, 3.0):
        if abs(seen - there).max() < ROUNDING:
            break
        threading.Event().wait(pause_s)
        seen = score(sampler)
    expect_near("the newer weights answer", seen, there)


@rule(
    "publishing.a-trainers-pin-waits-for-the-next",
    title="A client that a trainer makes of a path serves it until the next publication is live",
    section="6.5",
    needs=_BOTH,
)
def a_trainers_pin_waits_for_the_next(subject: Subject) -> None:
    """Look with it before and after the next publication."""
    trainer = subject.trainer()
    path = trainer.save_weights_for_sampler("one").result().path
    pinned = trainer.create_sampling_client(path)
    fresh = look(trainer)
    step(trainer)
    expect_near("the path's weights answer", score(pinned), fresh)
    publish(trainer, "two").ensure_ready()
    expect_near("then the next publication's", score(pinned), look(trainer))
