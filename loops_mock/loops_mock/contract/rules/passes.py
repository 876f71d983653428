"""Rules of passes: gradients add up, and are those of the loss; forward changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from loops_core import AdamParams
from loops_mock.contract.probes import (
    ADAM,
    BATCH,
    DATUM,
    apply,
    expect_failed,
    expect_near,
    logprobs_of,
    look,
    step,
    unless_offered,
)
from loops_mock.contract.rule import expect, rule
from loops_mock.contract.subject import Subject

_TRAIN = {"train"}
_STAY = ADAM.model_copy(update={"learning_rate": 0.0})


@rule(
    "passes.gradients-add-up-over-calls",
    title="Two passes before a step give the step of one pass over all their data",
    section="5.4",
    needs=_TRAIN,
)
def gradients_add_up_over_calls(subject: Subject) -> None:
    """Give three datums in one call, and in two of different size."""
    whole, parts = subject.trainer(), subject.trainer()
    one = step(whole, BATCH)
    parts.forward_backward(list(BATCH[:1]))
    two = step(parts, BATCH[1:])
    expect_near("grad_norm is that of one call", two["grad_norm"], one["grad_norm"])
    expect_near("both have taken the same step", look(parts, BATCH), look(whole, BATCH))


@rule(
    "passes.the-mean-is-over-all-calls",
    title="The gradients are divided once, by the active positions of all calls together",
    section="5.4",
    needs=_TRAIN,
)
def the_mean_is_over_all_calls(subject: Subject) -> None:
    """Give one datum once, and three times: the mean is the same."""
    once, thrice = subject.trainer(), subject.trainer()
    one = step(once)
    thrice.forward_backward([DATUM])
    thrice.forward_backward([DATUM])
    three = step(thrice)
    expect_near("grad_norm is a mean's, not a sum's", three["grad_norm"], one["grad_norm"])
    expect_near("both have taken the same step", look(thrice), look(once))


@rule(
    "passes.forward-leaves-gradients",
    title="A forward pass between backward passes adds nothing to the gradients",
    section="5.4",
    needs=_TRAIN,
)
def forward_leaves_gradients(subject: Subject) -> None:
    """Look at other data before and after the backward pass."""
    looked, plain = subject.trainer(), subject.trainer()
    looked.forward(list(BATCH[1:]))
    looked.forward_backward([DATUM])
    looked.forward(list(BATCH[1:]))
    one, two = apply(looked), step(plain)
    expect_near("grad_norm is that of the backward pass", one["grad_norm"], two["grad_norm"])
    expect_near("both have taken the same step", look(looked), look(plain))


@rule(
    "passes.forward-alone-is-no-gradient",
    title="After a forward pass alone there is nothing to step with",
    section="5.4",
    needs=_TRAIN,
)
def forward_alone_is_no_gradient(subject: Subject) -> None:
    """Step after a forward pass."""
    trainer = subject.trainer()
    before = look(trainer)
    expect_failed("a step needs gradients", lambda: trainer.optim_step(ADAM).result())
    expect_near("the weights are as they were", look(trainer), before)


@rule(
    "passes.a-backward-pass-leaves-the-weights",
    title="A backward pass changes no weight: only a step does",
    section="5.4",
    needs=_TRAIN,
)
def a_backward_pass_leaves_the_weights(subject: Subject) -> None:
    """Look before and after a backward pass."""
    trainer = subject.trainer()
    step(trainer)
    before = look(trainer)
    trainer.forward_backward(list(BATCH))
    expect_near("the log-probabilities are as they were", look(trainer), before)


@rule(
    "passes.both-passes-report-the-same",
    title="forward and forward_backward report the same loss and log-probabilities",
    section="5.5",
    needs=_TRAIN,
)
def both_passes_report_the_same(subject: Subject) -> None:
    """Run both on a trained adapter."""
    trainer = subject.trainer()
    step(trainer)
    one = trainer.forward(list(BATCH)).result()
    two = trainer.forward_backward(list(BATCH)).result()
    expect_near("the loss is the same", two.loss, one.loss)
    expect_near("the log-probabilities are the same", logprobs_of(two), logprobs_of(one))


@rule(
    "passes.the-gradient-is-the-slope-of-the-loss",
    title="A small step against the gradient lowers the loss by the gradient's square",
    section="5.4",
    needs=_TRAIN,
)
def the_gradient_is_the_slope_of_the_loss(subject: Subject) -> None:
    """With an eps far above the gradient, Adam's step is gradient * learning_rate / eps."""
    trainer = subject.trainer()
    before = trainer.forward_backward(list(BATCH)).result().loss
    huge = AdamParams(learning_rate=0.0, eps=1e6, grad_clip_norm=0.0)
    norm = apply(trainer, huge)["grad_norm"]
    expected = 4e-3  # far above rounding, and so small that the loss is straight
    rate = huge.eps * expected / norm**2
    step(trainer, BATCH, huge.model_copy(update={"learning_rate": rate}))
    after = trainer.forward(list(BATCH)).result().loss
    # A twentieth: the loss bends on the way, by less than a thousandth in models of ours.
    expect_near("the loss falls by the slope", before - after, expected, atol=expected / 20)


@rule(
    "passes.a-step-empties-the-gradients",
    title="A step starts the sum of gradients anew",
    section="5.4",
    needs=_TRAIN,
)
def a_step_empties_the_gradients(subject: Subject) -> None:
    """Step on one datum, then on another; with learning rate 0 the weights stay."""
    used, fresh = subject.trainer(), subject.trainer()
    step(used, [BATCH[1]], _STAY)
    one, two = step(used, [DATUM], _STAY), step(fresh, [DATUM], _STAY)
    expect_near("grad_norm is of the second alone", one["grad_norm"], two["grad_norm"])
    expect(one["grad_norm"] > 0, "there is a gradient", grad_norm=one["grad_norm"])


@rule(
    "passes.the-order-of-data-does-not-matter",
    title="The gradients of a batch do not depend on the order of its datums",
    section="5.4",
    needs=_TRAIN,
)
def the_order_of_data_does_not_matter(subject: Subject) -> None:
    """Step on a batch, and on the same backwards."""
    there, back = subject.trainer(), subject.trainer()
    one, two = step(there, BATCH), step(back, BATCH[::-1])
    expect_near("grad_norm is the same", two["grad_norm"], one["grad_norm"])
    expect_near("both have taken the same step", look(back, BATCH), look(there, BATCH))


@rule(
    "passes.every-datum-is-graded",
    title="Every datum of a batch has its part in the gradients",
    section="5.4",
    needs=_TRAIN,
)
def every_datum_is_graded(subject: Subject) -> None:
    """Leave one of three datums out at a time: the gradient is another one."""
    norms: dict[str, float] = {}
    trainer = subject.trainer()
    norms["all"] = step(trainer, BATCH, _STAY)["grad_norm"]
    for left_out in range(3):
        rest = [datum for place, datum in enumerate(BATCH) if place != left_out]
        norms[f"without {left_out}"] = step(trainer, rest, _STAY)["grad_norm"]
    for name, norm in norms.items():
        others = [other for key, other in norms.items() if key != name]
        closest = min(abs(norm - other) / norm for other in others)
        expect(closest > 1e-4, f"{name}: grad_norm is like none of the others", **norms)


@rule(
    "passes.top-k-logprobs-are-the-most-likely",
    title="top_k_logprobs returns the k most likely tokens of each position, best first",
    section="5.5",
    needs={"train", "top_k_logprobs"},
)
def top_k_logprobs_are_the_most_likely(subject: Subject) -> None:
    """Ask for three, and score each of them as a target."""
    trainer = subject.trainer()
    unless_offered("top_k_logprobs", lambda: trainer.forward([DATUM], top_k_logprobs=3).result())
    output = trainer.forward([DATUM], top_k_logprobs=3).result().loss_fn_outputs[0]
    ids, best = output["topk_ids"].to_numpy(), output["topk_logprobs"].to_numpy()
    expect(ids.shape == best.shape == (8, 3), "k of each position", ids=ids.shape, best=best.shape)
    expect((np.diff(best, axis=1) <= 0).all(), "best first", seen=best.tolist())
    worst, target = best[:, -1], output["logprobs"].to_numpy()
    known = (ids == DATUM.loss_fn_inputs["target_tokens"].to_numpy()[:, None]).any(axis=1)
    expect((known | (target <= worst + 1e-6)).all(), "no target outside them is more likely")
    many = DATUM.model_copy(update={"loss_fn_inputs": {"target_tokens": output["topk_ids"]}})
    expect_near("each has its own log-probability", look(trainer, [many]), best.ravel())


@rule(
    "passes.training-lowers-the-loss",
    title="Steps on a batch lower its loss",
    section="5.4",
    needs=_TRAIN,
)
def training_lowers_the_loss(subject: Subject) -> None:
    """Take three small steps on one datum."""
    trainer = subject.trainer()
    before = look(trainer).mean()
    for _ in range(3):
        step(trainer, [DATUM], ADAM.model_copy(update={"learning_rate": 2e-3}))
    after = look(trainer).mean()
    expect(after > before + 1e-3, "the targets are more likely", before=before, after=after)


@rule(
    "passes.a-custom-loss-has-its-gradient",
    title="forward_backward_custom gives the gradient of the caller's own function of logprobs",
    section="5.4",
    needs=_TRAIN,
)
def a_custom_loss_has_its_gradient(subject: Subject) -> None:
    """Write the plain sum of -logprob in the framework that is there, and compare the step."""
    custom, plain = subject.trainer(), subject.trainer()

    def loss(_: object, logprobs: Sequence[Any]) -> tuple[Any, dict[str, float]]:
        return -sum(row.sum() for row in logprobs), {"mine": 1.0}

    output = custom.forward_backward_custom(
        list(BATCH[:2]), loss, framework="jax" if find_spec("jax") else None
    ).result()
    plain.forward_backward(list(BATCH[:2]), loss_fn_config={"skip_token_normalization": True})
    one, two = apply(custom), apply(plain)
    expect(output.metrics.get("mine") == 1.0, "its metrics are told", metrics=output.metrics)
    expect_near("grad_norm is the sum's", one["grad_norm"] / two["grad_norm"], 1.0)
    expect_near("both have taken the same step", look(custom), look(plain))
