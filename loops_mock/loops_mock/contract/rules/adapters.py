"""Rules of adapters: fresh ones change nothing, seeds repeat, ranks are honoured."""

from __future__ import annotations

from loops_mock.contract.probes import (
    ADAM,
    BATCH,
    DATUM,
    SEED,
    TEXT,
    apply,
    expect_moved,
    expect_near,
    look,
    score,
    step,
)
from loops_mock.contract.rule import expect, rule
from loops_mock.contract.subject import Subject

_TRAIN = {"train"}


@rule(
    "adapters.a-fresh-one-changes-nothing",
    title="A fresh adapter gives the log-probabilities of the base model",
    section="6.1",
    needs={"train", "sample"},
)
def a_fresh_one_changes_nothing(subject: Subject) -> None:
    """Compare a trainer with a sampler of the base model."""
    base = subject.service().create_sampling_client(base_model=subject.base_model)
    expect_near("the trainer agrees with the base model", look(subject.trainer()), score(base))


@rule(
    "adapters.a-fresh-one-is-free-of-seed-and-rank",
    title="Fresh adapters of other seeds and ranks give the same log-probabilities",
    section="6.1",
    needs=_TRAIN,
)
def a_fresh_one_is_free_of_seed_and_rank(subject: Subject) -> None:
    """Compare three fresh adapters."""
    first = look(subject.trainer(rank=4, seed=1))
    expect_near("another seed", look(subject.trainer(rank=4, seed=2)), first)
    expect_near("another rank", look(subject.trainer(rank=2, seed=1)), first)


@rule(
    "adapters.a-step-reaches-the-output",
    title="A step changes what the model says: the adapter is scaled by more than 0",
    section="6.1",
    needs=_TRAIN,
)
def a_step_reaches_the_output(subject: Subject) -> None:
    """Take one step."""
    trainer = subject.trainer()
    before = look(trainer)
    step(trainer)
    expect_moved("the log-probabilities move", look(trainer), before)


@rule(
    "adapters.a-seed-repeats",
    title="Two runs of one seed that do the same are the same",
    section="6.1",
    needs=_TRAIN,
)
def a_seed_repeats(subject: Subject) -> None:
    """Take the same step in both."""
    one, two = subject.trainer(seed=SEED), subject.trainer(seed=SEED)
    step(one)
    step(two)
    expect_near("both have the same log-probabilities", look(two), look(one))


@rule(
    "adapters.another-seed-is-another-adapter",
    title="Runs of different seeds start from different adapters",
    section="6.1",
    needs=_TRAIN,
)
def another_seed_is_another_adapter(subject: Subject) -> None:
    """The gradient at the start depends on the adapter's A."""
    norms = [step(subject.trainer(seed=seed))["grad_norm"] for seed in (SEED, SEED + 1)]
    expect(abs(norms[0] - norms[1]) > 1e-5 * norms[0], "the gradients differ", seen=norms)


@rule(
    "adapters.the-rank-is-honoured",
    title="An adapter has the rank that was asked for, and its checkpoints say so",
    section="1.5",
    needs=_TRAIN,
)
def the_rank_is_honoured(subject: Subject) -> None:
    """Ask for rank 2, save, and look at the listing."""
    trainer = subject.trainer(rank=2)
    told = trainer.get_info().lora_rank
    expect(told == 2, "the client tells the rank", seen=told)
    trainer.save_state("ranked").result()
    ranks = [found.lora_adapter_config.rank for found in trainer.list_checkpoints()]
    expect(ranks == [2], "the checkpoint has the rank", seen=ranks)


@rule(
    "adapters.init-starts-over",
    title="init_trainer_server gives a fresh adapter of the rank asked for, at step 0",
    section="6.1",
    needs=_TRAIN,
)
def init_starts_over(subject: Subject) -> None:
    """Train, and start over with another rank."""
    trainer = subject.trainer()
    fresh = look(trainer)
    step(trainer)
    answer = trainer.init_trainer_server(2).result()
    expect((answer.step, answer.lora_rank) == (0, 2), "step 0 of rank 2", seen=answer)
    expect_near("the adapter is fresh", look(trainer), fresh)
    counted = step(trainer)["step"]
    expect(counted == 1.0, "steps are counted from 1 again", seen=counted)


@rule(
    "adapters.init-drops-gradients",
    title="init_trainer_server drops gradients that wait for a step",
    section="6.1",
    needs=_TRAIN,
)
def init_drops_gradients(subject: Subject) -> None:
    """Start over between a pass and a step."""
    trainer = subject.trainer()
    trainer.forward_backward(list(BATCH), loss_fn_config={"skip_token_normalization": True})
    trainer.init_trainer_server(4)
    # It would be refused, were there still gradients that are not divided.
    trainer.forward_backward([BATCH[0]]).result()
    counted = apply(trainer).get("active_tokens", 8.0)
    expect(counted == len(TEXT) - 1, "one text is counted", active_tokens=counted)


@rule(
    "adapters.ranks-train-alike",
    title="Adapters of rank 1 and of a higher rank both learn",
    section="6.1",
    needs=_TRAIN,
)
def ranks_train_alike(subject: Subject) -> None:
    """Take a step with each."""
    adam = ADAM.model_copy(update={"learning_rate": 2e-3})
    for rank in (1, 4):
        trainer = subject.trainer(rank=rank)
        before = trainer.forward_backward([DATUM]).result().loss
        apply(trainer, adam)
        after = trainer.forward([DATUM]).result().loss
        expect(after < before - 1e-3, f"rank {rank} learns", before=before, after=after)


@rule(
    "adapters.a-larger-rank-is-no-louder",
    title="The adapter's scale is alpha / rank: a larger rank does not make its gradients larger",
    section="6.1",
    needs=_TRAIN,
)
def a_larger_rank_is_no_louder(subject: Subject) -> None:
    """With alpha / rank the first gradient falls like 1 / sqrt(rank); with alpha it grows so."""
    small, large = (step(subject.trainer(rank=rank))["grad_norm"] for rank in (1, 16))
    expect(large < small, "rank 16 is not louder than rank 1", rank_1=small, rank_16=large)
