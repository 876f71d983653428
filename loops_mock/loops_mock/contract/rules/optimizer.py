"""Rules of the optimizer: Adam with bias correction, decoupled decay, and clipping by norm.

Weights are not seen from outside, so two trainers of one seed are brought to the same place on two
ways. With learning rate 0 a step moves the moments alone, and the gradient g stays what it was: a
pass whose weights are all w then has the gradient w * g exactly, and what Adam makes of it follows
from the formula whatever g is.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from loops_core import AdamParams, TrainingClient
from loops_mock.contract.probes import (
    BATCH,
    DATUM,
    TEXT,
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

_EPS: Final = 1e-8
"""Far below every gradient: the step is then a function of the gradient's direction."""

ALIKE: Final = 1e-3
"""Bound of rounding where gradients close to 0 decide by their sign."""


def _adam(learning_rate: float = 2e-2, **fields: float) -> AdamParams:
    return AdamParams.model_validate(
        {"learning_rate": learning_rate, "eps": _EPS, "grad_clip_norm": 0.0, **fields}
    )


def _push(trainer: TrainingClient, weight: float, adam: AdamParams) -> None:
    """Step with `weight` times the gradient of the text."""
    trainer.forward_backward([make_datum(TEXT, weights=[weight] * 8)])
    trainer.optim_step(adam)


@rule(
    "optimizer.the-first-step-is-free-of-betas",
    title="The first step is bias-corrected: beta1 and beta2 do not change it",
    section="5.4",
    needs=_TRAIN,
)
def the_first_step_is_free_of_betas(subject: Subject) -> None:
    """Take a first step with very different betas."""
    slow, fast = subject.trainer(), subject.trainer()
    _push(slow, 1.0, _adam(beta1=0.9, beta2=0.999))
    _push(fast, 1.0, _adam(beta1=0.1, beta2=0.2))
    expect_near("both have taken the same step", look(fast), look(slow), atol=ALIKE)


@rule(
    "optimizer.the-first-step-is-free-of-scale",
    title="The first step has the size of the learning rate, whatever the gradient's scale",
    section="5.4",
    needs=_TRAIN,
)
def the_first_step_is_free_of_scale(subject: Subject) -> None:
    """Take a first step with a gradient that is a hundred times as large."""
    small, large = subject.trainer(), subject.trainer()
    _push(small, 1.0, _adam())
    _push(large, 100.0, _adam())
    expect_near("both have taken the same step", look(large), look(small), atol=ALIKE)


@rule(
    "optimizer.the-learning-rate-scales-the-step",
    title="The learning rate of each call is the one that its step takes",
    section="5.4",
    needs=_TRAIN,
)
def the_learning_rate_scales_the_step(subject: Subject) -> None:
    """With learning rate 0 first, the second step of the same gradient is like a first step."""
    later, first = subject.trainer(), subject.trainer()
    _push(later, 1.0, _adam(0.0))
    _push(later, 1.0, _adam(3e-2))
    _push(first, 1.0, _adam(3e-2))
    expect_near("both have taken the same step", look(later), look(first), atol=ALIKE)


@rule(
    "optimizer.learning-rate-0-changes-no-weight",
    title="A step of learning rate 0 leaves the weights as they are, also with weight decay",
    section="5.4",
    needs=_TRAIN,
)
def learning_rate_0_changes_no_weight(subject: Subject) -> None:
    """Compare a trained adapter before and after."""
    trainer = subject.trainer()
    step(trainer)
    before = look(trainer)
    _push(trainer, 1.0, _adam(0.0, weight_decay=0.5))
    expect_near("the log-probabilities are as they were", look(trainer), before)


@rule(
    "optimizer.beta1-is-the-first-moments-decay",
    title="With beta1 = b, a gradient g and then -b * g leave no first moment, and no step",
    section="5.4",
    needs=_TRAIN,
)
def beta1_is_the_first_moments_decay(subject: Subject) -> None:
    """B * (1 - b) * g + (1 - b) * (-b * g) = 0."""
    trainer = subject.trainer()
    before = look(trainer)
    _push(trainer, 1.0, _adam(0.0, beta1=0.5, beta2=0.5))
    _push(trainer, -0.5, _adam(5e-2, beta1=0.5, beta2=0.5))
    expect_near("the second step is of size 0", look(trainer), before, atol=ALIKE)


@rule(
    "optimizer.moments-follow-adam",
    title="The second step is Adam's: with both moments, their decays and their bias correction",
    section="5.4",
    needs=_TRAIN,
)
def moments_follow_adam(subject: Subject) -> None:
    """After g and w * g the step is k * sign(g), with k from the formula; take it at once."""
    beta1, beta2, weight, rate = 0.6, 0.5, 4.0, 3e-2
    first = (beta1 * (1 - beta1) + (1 - beta1) * weight) / (1 - beta1**2)
    second = (beta2 * (1 - beta2) + (1 - beta2) * weight**2) / (1 - beta2**2)
    k = first / np.sqrt(second)
    long, short = subject.trainer(), subject.trainer()
    _push(long, 1.0, _adam(0.0, beta1=beta1, beta2=beta2))
    _push(long, weight, _adam(rate, beta1=beta1, beta2=beta2))
    _push(short, 1.0, _adam(rate * float(k)))
    expect_near("both are at the same place", look(long), look(short), atol=ALIKE)


@rule(
    "optimizer.eps-bounds-the-step",
    title="eps is added to the root of the second moment",
    section="5.4",
    needs=_TRAIN,
)
def eps_bounds_the_step(subject: Subject) -> None:
    """An eps far above the gradient makes the step proportional to learning_rate / eps."""
    one, two = subject.trainer(), subject.trainer()
    norm = step(one, [DATUM], _adam(0.0, eps=1e5))["grad_norm"]
    _push(one, 1.0, _adam(1e4 / norm, eps=1e5))
    _push(two, 1.0, _adam(1e5 / norm, eps=1e6))
    expect_near("both have taken the same step", look(one), look(two))


@rule(
    "optimizer.weight-decay-is-decoupled",
    title="Weight decay shrinks weights by learning_rate * weight_decay beside Adam's step",
    section="5.4",
    needs=_TRAIN,
)
def weight_decay_is_decoupled(subject: Subject) -> None:
    """A fresh adapter's B is 0, so that A has no gradient: a decay of 1 makes A 0, and no update.

    Both factors are powers of two, so that their product is 1 without rounding.
    """
    trainer = subject.trainer()
    before = look(trainer)
    _push(trainer, 1.0, _adam(2.0**-6, weight_decay=2.0**6))
    expect_near("the adapter's product is 0 again", look(trainer), before)


@rule(
    "optimizer.weight-decay-defaults-to-0",
    title="Without weight_decay a step decays nothing",
    section="4.6",
    needs=_TRAIN,
)
def weight_decay_defaults_to_0(subject: Subject) -> None:
    """Say 0, and say nothing."""
    said, unsaid = subject.trainer(), subject.trainer()
    _push(said, 1.0, _adam(5e-2, weight_decay=0.0))
    _push(unsaid, 1.0, _adam(5e-2))
    expect_near("both have taken the same step", look(unsaid), look(said))


@rule(
    "optimizer.clipping-scales-to-the-norm",
    title="A gradient above grad_clip_norm is scaled down to that norm, and keeps its direction",
    section="5.4",
    needs=_TRAIN,
)
def clipping_scales_to_the_norm(subject: Subject) -> None:
    """With a large eps the step shows the gradient's size: clip it, or weigh it to that size."""
    clipped, weighed = subject.trainer(), subject.trainer()
    norm = step(weighed, [DATUM], _adam(0.0))["grad_norm"]
    adam = _adam(200.0 / norm, eps=1e3, beta1=0.0, beta2=0.0)
    step(clipped, [DATUM], adam.model_copy(update={"grad_clip_norm": norm / 4}))
    _push(weighed, 0.25, adam)
    expect_near("both have taken the same step", look(clipped), look(weighed))


@rule(
    "optimizer.grad-norm-is-told-before-clipping",
    title="grad_norm is the norm before clipping",
    section="2.11",
    needs=_TRAIN,
)
def grad_norm_is_told_before_clipping(subject: Subject) -> None:
    """Clip to a tenth of the norm, to more than it, and not at all."""
    trainer = subject.trainer()
    norm = step(trainer, [DATUM], _adam(0.0))["grad_norm"]
    for clip in (norm / 10, norm * 10):
        seen = step(trainer, [DATUM], _adam(0.0, grad_clip_norm=clip))["grad_norm"]
        expect_near(f"grad_norm with clip {clip:.3g}", seen, norm)


@rule(
    "optimizer.a-gradient-below-the-clip-stays",
    title="A gradient below grad_clip_norm is not changed, and 0 clips nothing",
    section="5.4",
    needs=_TRAIN,
)
def a_gradient_below_the_clip_stays(subject: Subject) -> None:
    """With a large eps the step shows the gradient's size."""
    free, bounded = subject.trainer(), subject.trainer()
    adam = _adam(100.0, eps=1e3)
    fresh = look(free)
    _push(free, 1.0, adam)
    _push(bounded, 1.0, adam.model_copy(update={"grad_clip_norm": 1e6}))
    after = look(free)
    expect_near("both have taken the same step", look(bounded), after)
    expect_moved("the gradient is not clipped to 0", after, fresh, by=1e-3)


@rule(
    "optimizer.steps-are-counted-from-1",
    title="metrics.step is 1 after the first step and grows by one",
    section="2.11",
    needs=_TRAIN,
)
def steps_are_counted_from_1(subject: Subject) -> None:
    """Take three steps."""
    trainer = subject.trainer()
    steps = [step(trainer)["step"] for _ in range(3)]
    expect(steps == [1.0, 2.0, 3.0], "steps are 1, 2, 3", seen=steps)


@rule(
    "optimizer.metrics-tell-the-values-used",
    title="metrics tell the learning rate of the call, and a finite grad_norm above 0",
    section="2.11",
    needs=_TRAIN,
)
def metrics_tell_the_values_used(subject: Subject) -> None:
    """Change the learning rate between two steps."""
    trainer = subject.trainer()
    for rate in (1e-3, 5e-4):
        metrics = step(trainer, [DATUM], _adam(rate))
        expect_near("the rate of this call", metrics["learning_rate"], rate, atol=1e-9)
        expect(np.isfinite(list(metrics.values())).all(), "all finite", metrics=metrics)
        expect(metrics["grad_norm"] > 0, "there is a gradient", metrics=metrics)


@rule(
    "optimizer.a-step-needs-gradients",
    title="A step without gradients fails, and neither counts nor moves anything",
    section="5.4",
    needs=_TRAIN,
)
def a_step_needs_gradients(subject: Subject) -> None:
    """Step twice after one pass."""
    trainer = subject.trainer()
    step(trainer)
    before = look(trainer)
    expect_failed("a second step fails", lambda: trainer.optim_step(_adam()).result())
    expect_same("the weights are as they were", look(trainer), before)
    counted = step(trainer)["step"]
    expect(counted == 2.0, "the failed step is not counted", seen=counted)


@rule(
    "optimizer.moments-outlive-the-step",
    title="Moments are kept from step to step",
    section="5.4",
    needs=_TRAIN,
)
def moments_outlive_the_step(subject: Subject) -> None:
    """Steps on other data first, and the same step after it, lead elsewhere than a first step."""
    used, fresh = subject.trainer(), subject.trainer()
    step(used, [BATCH[1]], _adam(0.0))
    step(used, [DATUM], _adam())
    step(fresh, [DATUM], _adam())
    expect_moved("the earlier gradient has its part in the step", look(used), look(fresh))
