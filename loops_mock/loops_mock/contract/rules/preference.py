"""Rules of dpo: neighbours in the data are a chosen and a rejected text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from loops_core import AdamParams, Datum, TrainingClient
from loops_mock.contract.probes import (
    ADAM,
    BATCH,
    TEXTS,
    expect_near,
    expect_refused,
    look,
    make_datum,
    run_loss,
    step,
)
from loops_mock.contract.rule import expect, rule
from loops_mock.contract.subject import Subject


def _preferred(trainer: TrainingClient) -> tuple[list[Datum], float]:
    """Return a chosen and a rejected text with references, and the difference of their margins."""
    pair = [make_datum(TEXTS[0]), make_datum(TEXTS[1])]
    lp = look(trainer, pair).reshape(2, 8)
    margins = np.array([np.linspace(0.1, 0.5, 8), np.linspace(-0.3, 0.2, 8)])
    data = [
        make_datum(text, ref_logprobs=row - margin)
        for text, row, margin in zip(TEXTS, lp, margins, strict=False)
    ]
    return data, float(margins[0].sum() - margins[1].sum())


def _dpo(delta: float, *, beta: float = 0.1, smoothing: float = 0.0) -> float:
    won, lost = np.logaddexp(0, -beta * delta), np.logaddexp(0, beta * delta)
    return float((1 - smoothing) * won + smoothing * lost)


@rule(
    "preference.dpo-is-the-formula",
    title="dpo compares neighbours, chosen before rejected; metrics or loss tell its mean",
    section="5.2",
    needs={"train", "loss:dpo"},
)
def dpo_is_the_formula(subject: Subject) -> None:
    """Run one pair with the defaults; the sum is over pairs, the mean over active positions."""
    trainer = subject.trainer()
    data, delta = _preferred(trainer)
    output = run_loss(trainer, data, "dpo")
    _check_dpo(output.loss, output.metrics, _dpo(delta))


@rule(
    "preference.dpo-settings-are-honoured",
    title="The settings beta and label_smoothing of dpo are honoured",
    section="5.1",
    needs={"train", "loss:dpo"},
)
def dpo_settings_are_honoured(subject: Subject) -> None:
    """Say other settings."""
    trainer = subject.trainer()
    data, delta = _preferred(trainer)
    output = run_loss(trainer, data, "dpo", {"beta": 0.7, "label_smoothing": 0.2})
    _check_dpo(output.loss, output.metrics, _dpo(delta, beta=0.7, smoothing=0.2))


def _check_dpo(loss: float, metrics: Mapping[str, float], expected: float) -> None:
    total = metrics.get("loss:sum")
    if total is not None:
        expect_near("loss:sum is the pair's loss", total, expected, atol=1e-3)
    known = [expected, expected / 2, expected / 16]  # a mean over pairs, datums or positions
    closest = min(abs(loss - value) for value in known)
    expect(closest < 1e-3, "the loss is the page's formula", loss=loss, expected=known)


@rule(
    "preference.dpo-has-an-order",
    title="Swapping chosen and rejected turns dpo's margin",
    section="5.1",
    needs={"train", "loss:dpo"},
)
def dpo_has_an_order(subject: Subject) -> None:
    """Run a pair and the same backwards: the losses are those of delta and -delta."""
    trainer = subject.trainer()
    data, delta = _preferred(trainer)
    there = run_loss(trainer, data, "dpo", {"beta": 0.7}).loss
    back = run_loss(trainer, data[::-1], "dpo", {"beta": 0.7}).loss
    expected = _dpo(-delta, beta=0.7) / _dpo(delta, beta=0.7)
    expect_near("the losses are those of both signs", back / there, expected, atol=1e-2)


@rule(
    "preference.dpo-is-graded",
    title="A step on dpo makes the chosen text likelier, compared with the rejected one",
    section="5.2",
    needs={"train", "loss:dpo"},
)
def dpo_is_graded(subject: Subject) -> None:
    """The gradient is that of cross-entropy with weights of one size and either sign."""
    plain, twin = subject.trainer(), subject.trainer()
    data, delta = _preferred(plain)
    run_loss(plain, data, "dpo", {"beta": 0.7}, backward=True)
    plain.optim_step(_free_of_scale())
    slope = 0.7 / (1 + np.exp(0.7 * delta))
    signs = zip(TEXTS, (slope, -slope), strict=False)
    step(twin, [make_datum(text, weights=[sign] * 8) for text, sign in signs], _free_of_scale())
    expect_near(
        "the step is the formula's", look(plain, BATCH[:2]), look(twin, BATCH[:2]), atol=1e-3
    )


def _free_of_scale() -> AdamParams:
    return ADAM.model_copy(update={"eps": 1e-8})


@rule(
    "preference.dpo-needs-pairs",
    title="An odd number of datums is refused by dpo",
    section="2.10",
    needs={"train", "loss:dpo"},
)
def dpo_needs_pairs(subject: Subject) -> None:
    """Send one datum of a pair."""
    trainer = subject.trainer()
    data, _ = _preferred(trainer)
    run_loss(trainer, data, "dpo")
    expect_refused(
        "one datum is no pair", lambda: trainer.forward_backward(data[:1], "dpo").result(), "dpo"
    )
