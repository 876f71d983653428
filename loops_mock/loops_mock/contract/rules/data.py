"""Rules of data: what a position predicts, what is ignored, and in which order results come."""

from __future__ import annotations

import numpy as np

from loops_core import Datum, ModelInput
from loops_core.types.datum import EncodedTextChunk
from loops_mock.contract.probes import (
    BATCH,
    DATUM,
    TEXT,
    TEXTS,
    expect_moved,
    expect_near,
    ignore_from,
    logprobs_of,
    look,
    make_datum,
    step,
)
from loops_mock.contract.rule import expect, rule
from loops_mock.contract.subject import Subject

_TRAIN = {"train"}


@rule(
    "data.no-position-sees-later-tokens",
    title="A position's log-probability depends on the tokens up to it alone",
    section="5.1",
    needs=_TRAIN,
)
def no_position_sees_later_tokens(subject: Subject) -> None:
    """Change the last input token, and look at the positions before it."""
    changed = (*TEXT[:-2], 30, TEXT[-1])
    data = [DATUM, make_datum(changed, targets=TEXT[1:])]
    one, two = look(subject.trainer(), data).reshape(2, -1)
    expect_near("positions before a changed token are as they were", two[:-1], one[:-1])
    expect_moved("the position of a changed token sees it", two[-1:], one[-1:], by=1e-3)


@rule(
    "data.targets-are-not-shifted",
    title="Position i of model_input predicts target_tokens[i]",
    section="5.1",
    needs=_TRAIN,
)
def targets_are_not_shifted(subject: Subject) -> None:
    """Change one target, and see which log-probability moves."""
    targets = np.asarray(TEXT[1:])
    targets[3] = 30
    one, two = look(subject.trainer(), [DATUM, make_datum(TEXT, targets=targets)]).reshape(2, -1)
    expect_near("other targets keep their log-probability", np.delete(two, 3), np.delete(one, 3))
    expect_moved("a changed target has another log-probability", two[3:4], one[3:4], by=1e-3)


@rule(
    "data.ignored-targets-have-no-logprob",
    title="A target of -100 comes back as null, and its neighbours as they were",
    section="5.3",
    needs=_TRAIN,
)
def ignored_targets_have_no_logprob(subject: Subject) -> None:
    """Ignore the last two of eight targets."""
    some = make_datum(TEXT, targets=ignore_from(6))
    whole, masked = look(subject.trainer(), [DATUM, some]).reshape(2, -1)
    expect_near("targets that count keep their log-probability", masked[:6], whole[:6])
    expect(np.isnan(masked[6:]).all(), "an ignored target has no logprob", seen=masked.tolist())


@rule(
    "data.ignored-targets-are-not-counted",
    title="The loss is a mean over the positions that are not ignored",
    section="5.3",
    needs=_TRAIN,
)
def ignored_targets_are_not_counted(subject: Subject) -> None:
    """Ignore the last two of eight targets."""
    output = subject.trainer().forward([make_datum(TEXT, targets=ignore_from(6))]).result()
    expect_near("loss is the mean of six", output.loss, -np.nanmean(logprobs_of(output)))


@rule(
    "data.ignored-targets-are-not-graded",
    title="An ignored position adds nothing to the gradients, and is not counted in their mean",
    section="5.3",
    needs=_TRAIN,
)
def ignored_targets_are_not_graded(subject: Subject) -> None:
    """Ignore the last two targets of a text; and cut them off. Nothing before depends on them."""
    masked, cut = subject.trainer(), subject.trainer()
    one = step(masked, [make_datum(TEXT, targets=ignore_from(6))])
    two = step(cut, [make_datum(TEXT[:7])])
    expect_near("grad_norm is that of the positions that count", one["grad_norm"], two["grad_norm"])
    expect_near("both trainers have taken the same step", look(masked), look(cut))


@rule(
    "data.all-targets-ignored-gives-no-nan",
    title="A datum of ignored targets alone changes neither loss nor gradients of the others",
    section="5.3",
    needs=_TRAIN,
)
def all_targets_ignored_gives_no_nan(subject: Subject) -> None:
    """Put a datum that is all ignored beside another one."""
    nothing = make_datum(TEXTS[1], targets=ignore_from(0))
    padded, alone = subject.trainer(), subject.trainer()
    one, two = step(padded, [DATUM, nothing]), step(alone)
    expect_near("grad_norm is that of the other datum", one["grad_norm"], two["grad_norm"])
    expect_near("both trainers have taken the same step", look(padded), look(alone))


@rule(
    "data.targets-default-to-the-next-token",
    title="Without target_tokens a datum is scored on its own text, and the last position is not",
    section="5.1",
    needs=_TRAIN,
)
def targets_default_to_the_next_token(subject: Subject) -> None:
    """Leave the targets out."""
    bare = Datum(model_input=ModelInput.from_ints(list(TEXT[:-1])))
    output = subject.trainer().forward([bare, DATUM]).result()
    without, given = logprobs_of(output).reshape(2, -1)
    expect_near("the text's own tokens are the targets", without[:-1], given[:-1])
    last = without[-1]
    expect(np.isnan(last) or last == 0, "the last position has no target", seen=float(last))


@rule(
    "data.chunks-are-one-text",
    title="A text in several chunks is the same text",
    section="4.2",
    needs=_TRAIN,
)
def chunks_are_one_text(subject: Subject) -> None:
    """Cut the input in two chunks."""
    chunks = [EncodedTextChunk(tokens=list(part)) for part in (TEXT[:3], TEXT[3:-1])]
    cut = Datum(model_input=ModelInput(chunks=list(chunks)), loss_fn_inputs=DATUM.loss_fn_inputs)
    one, two = look(subject.trainer(), [DATUM, cut]).reshape(2, -1)
    expect_near("both have the same log-probabilities", two, one)


@rule(
    "data.results-come-in-the-datas-order",
    title="There is one result for every datum, in the order of the data and of its own length",
    section="5.5",
    needs=_TRAIN,
)
def results_come_in_the_datas_order(subject: Subject) -> None:
    """Send texts of different lengths, and the same backwards."""
    data = [make_datum(TEXT[:4]), make_datum(TEXTS[1]), make_datum(TEXTS[2][:6])]
    trainer = subject.trainer()
    there = trainer.forward(data).result().loss_fn_outputs
    back = trainer.forward(data[::-1]).result().loss_fn_outputs
    lengths = [len(tensors["logprobs"].to_numpy()) for tensors in there]
    expect(lengths == [3, 8, 5], "each result has its datum's length", seen=lengths)
    for one, two in zip(there, reversed(back), strict=True):
        seen, expected = two["logprobs"].to_numpy(), one["logprobs"].to_numpy()
        expect_near("a datum's result follows its place", seen, expected)


@rule(
    "data.neighbours-change-nothing",
    title="A datum's log-probabilities are the same alone and among others",
    section="5.5",
    needs=_TRAIN,
)
def neighbours_change_nothing(subject: Subject) -> None:
    """Send a datum alone, and between two others."""
    trainer = subject.trainer()
    among = look(trainer, [BATCH[1], DATUM, BATCH[2]]).reshape(3, -1)[1]
    expect_near("the log-probabilities are those of the datum alone", among, look(trainer))


@rule(
    "data.many-targets-are-scored-each",
    title="Targets of shape (N, K) give log-probabilities of shape (N, K), each as if alone",
    section="5.1",
    needs=_TRAIN,
)
def many_targets_are_scored_each(subject: Subject) -> None:
    """Score two targets at each position, and each of them alone."""
    others = [30 - place for place in range(8)]
    trainer = subject.trainer()
    pair = make_datum(TEXT, targets=np.stack([TEXT[1:], others], axis=1))
    both = trainer.forward([pair]).result().loss_fn_outputs[0]["logprobs"].to_numpy()
    expect(both.shape == (8, 2), "the shape is that of the targets", seen=both.shape)
    one, two = look(trainer, [DATUM, make_datum(TEXT, targets=others)]).reshape(2, -1)
    expect_near("each is as if alone", both, np.stack([one, two], axis=1))


@rule(
    "data.a-mask-in-the-inputs-changes-nothing",
    title="The input `mask`, which helpers of clients read, may be there and changes nothing",
    section="5.1",
    needs=_TRAIN,
)
def a_mask_in_the_inputs_changes_nothing(subject: Subject) -> None:
    """Carry a mask of ones and zeros."""
    masked = make_datum(TEXT, mask=[1, 1, 0, 0, 1, 1, 0, 0])
    one, two = look(subject.trainer(), [DATUM, masked]).reshape(2, -1)
    expect_near("the log-probabilities are the same", two, one)


@rule(
    "data.a-pass-repeats",
    title="The same pass on the same weights gives the same loss and log-probabilities",
    section="5.5",
    needs=_TRAIN,
)
def a_pass_repeats(subject: Subject) -> None:
    """Run one pass three times."""
    trainer = subject.trainer()
    first = trainer.forward(list(BATCH)).result()
    for _ in range(2):
        again = trainer.forward(list(BATCH)).result()
        expect_near("the log-probabilities repeat", logprobs_of(again), logprobs_of(first))
        expect_near("the loss repeats", again.loss, first.loss)
