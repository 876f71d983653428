"""Rules that seeded faults have shown to be missing; each is a handful of calls."""

from __future__ import annotations

from loops_core.types.datum import ModelInput
from loops_core.types.sampling import SamplingParams
from loops_mock.contract.probes import PROMPT, expect_near, look, step
from loops_mock.contract.rule import expect, rule
from loops_mock.contract.subject import RANK, Subject

_ADAM = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.0}


@rule(
    "sampling.a-cut-sequence-says-so",
    title="A sequence that was cut off at max_tokens ends for the reason length",
    section="4.5",
    needs={"sample"},
)
def a_cut_sequence_says_so(subject: Subject) -> None:
    """Draw single tokens without a stop: not every one of them is the end of a text."""
    wish = SamplingParams(max_tokens=1, seed=3)
    drawn = subject.sampler().sample(ModelInput.from_ints(list(PROMPT)), 16, wish).sequences
    reasons = {sequence.stop_reason for sequence in drawn}
    expect("length" in reasons, "some of the sequences were cut off", seen=sorted(reasons))


@rule(
    "versions.staged-weights-have-their-own",
    title="Weights that were staged do not share their version with weights published later",
    section="6.4",
    needs={"http", "train", "sample"},
)
def staged_weights_have_their_own(subject: Subject) -> None:
    """Save with bump_version false, step, and publish."""
    run = subject.raw.open_run()
    staged = run.done("save_weights_for_sampler", name="staged", bump_version=False)
    run.done("forward_backward", data=[subject.raw.datum()])
    run.done("optim_step", adam_params=_ADAM)
    published = run.done("save_weights_for_sampler", name="published", bump_version=True)
    versions = [staged["version"], published["version"]]
    expect(versions[0] < versions[1], "the later weights have a higher version", seen=versions)


@rule(
    "retrieve.error-class-is-told",
    title="A failed operation tells the class of its error in error_class",
    section="2.6",
    needs={"http", "train"},
)
def error_class_is_told(subject: Subject) -> None:
    """Load what is not there."""
    run = subject.raw.open_run()
    path = f"bt://loops:{run.id}/weights/nowhere"
    status = run.ended(run.accepted("load_state", {"path": path}))
    told = status.get("error_class")
    expect(isinstance(told, str) and told, "error_class is a class's name", status=status)


@rule(
    "adapters.init-of-the-same-rank-starts-over",
    title="init_trainer_server of the rank that the adapter has gives a fresh adapter too",
    section="6.1",
    needs={"train"},
)
def init_of_the_same_rank_starts_over(subject: Subject) -> None:
    """Train, and start over."""
    trainer = subject.trainer()
    fresh = look(trainer)
    step(trainer)
    trainer.init_trainer_server(RANK)
    expect_near("nothing is left of what was learned", look(trainer), fresh)
