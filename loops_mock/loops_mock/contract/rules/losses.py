"""Rules of cross-entropy, and of how any loss is averaged and reported."""

from __future__ import annotations

from typing import Final

import numpy as np

from loops_mock.contract.probes import (
    ADAM,
    BATCH,
    DATUM,
    TEXT,
    TEXTS,
    apply,
    expect_failed,
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
_STAY: Final = ADAM.model_copy(update={"learning_rate": 0.0})
_SUMS: Final = {"skip_token_normalization": True}
_WEIGHTS: Final = (1.0, 0.5, -2.0, 0.0, 3.0, 0.0, 0.25, 1.0)


@rule(
    "losses.cross-entropy-is-the-mean-negative-logprob",
    title="cross_entropy reports the mean of -logprob over all active positions of the request",
    section="5.4",
    needs=_TRAIN,
)
def cross_entropy_is_the_mean_negative_logprob(subject: Subject) -> None:
    """Use texts of different lengths: the mean is over positions, not over datums."""
    data = [make_datum(TEXT[:4]), make_datum(TEXTS[1], targets=ignore_from(6, TEXTS[1]))]
    output = subject.trainer().forward(data).result()
    logprobs = logprobs_of(output)
    expect(np.nanmax(logprobs) < 0, "log-probabilities are below 0", seen=logprobs.tolist())
    expect_near("loss is the mean over nine positions", output.loss, -np.nanmean(logprobs))


@rule(
    "losses.weights-multiply",
    title="Weights of cross_entropy multiply -logprob, be they negative, fractional or zero",
    section="5.2",
    needs=_TRAIN,
)
def weights_multiply(subject: Subject) -> None:
    """The sum is over weighted positions; those of weight 0 are not counted."""
    output = subject.trainer().forward([make_datum(TEXT, weights=_WEIGHTS)]).result()
    total = -float(np.dot(_WEIGHTS, logprobs_of(output)))
    expect_near("loss is the weighted sum over the six that count", output.loss, total / 6)


@rule(
    "losses.weights-scale-the-gradients",
    title="Weights of 3 give three times the gradient of weights of 1",
    section="5.2",
    needs=_TRAIN,
)
def weights_scale_the_gradients(subject: Subject) -> None:
    """With learning rate 0 the weights of the model stay."""
    trainer = subject.trainer()
    one = step(trainer, [make_datum(TEXT, weights=[1.0] * 8)], _STAY)["grad_norm"]
    three = step(trainer, [make_datum(TEXT, weights=[3.0] * 8)], _STAY)["grad_norm"]
    expect_near("grad_norm is three times as large", three / one, 3.0, atol=1e-3)


@rule(
    "losses.weights-default-to-one",
    title="Without weights every target has weight 1",
    section="5.1",
    needs=_TRAIN,
)
def weights_default_to_one(subject: Subject) -> None:
    """Compare loss and gradient with those of weights of 1."""
    trainer = subject.trainer()
    with_ones = make_datum(TEXT, weights=[1.0] * 8)
    one, two = (trainer.forward_backward([datum]) for datum in (DATUM, with_ones))
    expect_near("the loss is the same", two.result().loss, one.result().loss)
    trainer.optim_step(_STAY)
    ones, none = step(trainer, [with_ones], _STAY), step(trainer, [DATUM], _STAY)
    expect_near("the gradient is the same", ones["grad_norm"], none["grad_norm"])


@rule(
    "losses.weight-zero-counts-nowhere",
    title="A position of weight 0 has no loss and no gradient, and is not counted",
    section="5.3",
    needs=_TRAIN,
)
def weight_zero_counts_nowhere(subject: Subject) -> None:
    """Weigh the last two targets with 0; and ignore them."""
    weighed, ignored = subject.trainer(), subject.trainer()
    one = step(weighed, [make_datum(TEXT, weights=[1.0] * 6 + [0.0] * 2)])
    two = step(ignored, [make_datum(TEXT, targets=ignore_from(6))])
    expect_near("grad_norm is that of six positions", one["grad_norm"], two["grad_norm"])
    expect_near("both have taken the same step", look(weighed), look(ignored))


@rule(
    "losses.a-negative-weight-turns-the-gradient",
    title="The gradients of weights 1 and -1 cancel each other",
    section="5.2",
    needs=_TRAIN,
)
def a_negative_weight_turns_the_gradient(subject: Subject) -> None:
    """Add both before one step."""
    trainer = subject.trainer()
    plus, minus = (make_datum(TEXT, weights=[sign] * 8) for sign in (1.0, -1.0))
    alone = step(trainer, [plus], _STAY)["grad_norm"]
    trainer.forward_backward([plus])
    both = step(trainer, [minus], _STAY)["grad_norm"]
    # Float32 sums leave about 1e-6 of what is added up.
    expect(both < 1e-3 * alone, "nothing is left of the gradient", alone=alone, both=both)


@rule(
    "losses.many-targets-add-up",
    title="K targets at a position add up their weighted losses, and count as one position",
    section="5.2",
    needs=_TRAIN,
)
def many_targets_add_up(subject: Subject) -> None:
    """Weigh two targets at each position with 0.75 and 0.25."""
    targets = np.stack([TEXT[1:], TEXTS[1][1:]], axis=1)
    weights = np.tile([0.75, 0.25], (8, 1))
    output = subject.trainer().forward([make_datum(TEXT, targets=targets, weights=weights)])
    logprobs = logprobs_of(output.result()).reshape(8, 2)
    expected = -(weights * logprobs).sum() / 8
    expect_near("loss is a mean over positions", output.result().loss, expected)


@rule(
    "losses.many-targets-are-graded-each",
    title="The gradient of K targets is the sum of the gradients of each",
    section="5.2",
    needs=_TRAIN,
)
def many_targets_are_graded_each(subject: Subject) -> None:
    """Give two targets in one datum, and in two datums; nothing is divided."""
    together, apart = subject.trainer(), subject.trainer()
    targets = np.stack([TEXT[1:], TEXTS[1][1:]], axis=1)
    weights = np.tile([2.0, -0.5], (8, 1))
    together.forward_backward(
        [make_datum(TEXT, targets=targets, weights=weights)], loss_fn_config=_SUMS
    )
    parts = [make_datum(TEXT, targets=targets[:, k], weights=weights[:, k]) for k in range(2)]
    apart.forward_backward(parts, loss_fn_config=_SUMS)
    one, two = (apply(t) for t in (together, apart))
    expect_near("grad_norm is the same", one["grad_norm"] / two["grad_norm"], 1.0)
    expect_near("both have taken the same step", look(together), look(apart))


@rule(
    "losses.sums-are-not-divided",
    title="With skip_token_normalization gradients stay plain sums, and the result says so",
    section="5.4",
    needs=_TRAIN,
)
def sums_are_not_divided(subject: Subject) -> None:
    """Compare with the mean over eight positions."""
    trainer = subject.trainer()
    mean = step(trainer, [DATUM], _STAY)["grad_norm"]
    output = trainer.forward_backward([DATUM], loss_fn_config=_SUMS).result()
    total = apply(trainer, _STAY)["grad_norm"]
    expect_near("the sum is eight times the mean", total / mean, 8.0, atol=1e-2)
    echo = output.metrics.get("skip_token_normalization")
    expect(echo == 1.0, "metrics say skip_token_normalization 1", metrics=output.metrics)


@rule(
    "losses.sums-and-means-do-not-mix",
    title="A pass that is divided and one that is not cannot be mixed before one step",
    section="5.4",
    needs=_TRAIN,
)
def sums_and_means_do_not_mix(subject: Subject) -> None:
    """The second pass fails, and leaves the first as it was."""
    mixed, plain = subject.trainer(), subject.trainer()
    mixed.forward_backward([DATUM]).result()
    expect_failed(
        "the second kind of pass fails",
        lambda: mixed.forward_backward([BATCH[1]], loss_fn_config=_SUMS).result(),
    )
    one, two = apply(mixed), step(plain)
    expect_near("the first pass has its gradient", one["grad_norm"], two["grad_norm"])


@rule(
    "losses.settings-have-their-defaults",
    title="No settings, empty settings and the defaults are the same",
    section="5.1",
    needs=_TRAIN,
)
def settings_have_their_defaults(subject: Subject) -> None:
    """Say nothing, say {}, and say the default of cross_entropy."""
    trainer = subject.trainer()
    losses = [
        trainer.forward([DATUM], "cross_entropy", config).result().loss
        for config in (None, {}, {"skip_token_normalization": False})
    ]
    expect_near("the loss is the same", losses, [losses[0]] * 3)
    expect_near("cross_entropy is the default", trainer.forward([DATUM]).result().loss, losses[0])


@rule(
    "losses.metrics-are-finite-numbers",
    title="Loss and metrics of a pass are finite numbers, also where nothing is active",
    section="2.2",
    needs=_TRAIN,
)
def metrics_are_finite_numbers(subject: Subject) -> None:
    """Run a batch, and a datum whose targets are all ignored."""
    trainer = subject.trainer()
    for data in (list(BATCH), [make_datum(TEXT, targets=ignore_from(0))]):
        output = trainer.forward(data).result()
        numbers = {"loss": output.loss, **output.metrics}
        expect(np.isfinite(list(numbers.values())).all(), "all are finite", seen=numbers)
    expect_near("nothing active has loss 0", output.loss, 0.0)


@rule(
    "losses.sum-and-count-agree-with-the-mean",
    title="Where metrics tell loss:sum and active_tokens, their ratio is the loss",
    section="2.11",
    needs=_TRAIN,
)
def sum_and_count_agree_with_the_mean(subject: Subject) -> None:
    """Ignore two of sixteen targets."""
    data = [DATUM, make_datum(TEXTS[1], targets=ignore_from(6, TEXTS[1]))]
    output = subject.trainer().forward(data).result()
    metrics = output.metrics
    count = metrics.get("active_tokens", 14.0)
    expect(count == 14.0, "active_tokens counts what is not ignored", metrics=metrics)
    total = metrics.get("loss:sum", output.loss * 14)
    expect_near("loss:sum is the sum", total, -np.nansum(logprobs_of(output)), atol=1e-3)
