"""Rules of the losses of reinforcement learning, by the formulas of the page.

A trainer returns each target's log-probability lp, so that a loss and its derivative d loss / d lp
can be computed here, in NumPy. A derivative c is graded like `cross_entropy` with the weight -c:
both passes must lead to the same step, once the weights make up for the different counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from loops_core import Datum
from loops_core.types.training import IGNORED_TARGET
from loops_mock.contract.probes import (
    ADAM,
    TEXT,
    Floats,
    apply,
    expect_near,
    expect_refused,
    logprobs_of,
    look,
    make_datum,
    run_loss,
    step,
)
from loops_mock.contract.rule import expect, rule
from loops_mock.contract.subject import Subject

Settings = Mapping[str, float]

ADVANTAGES: Final = np.array([1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 1.0, 0.0])
"""Of either sign; the last position is inactive."""

GAPS: Final = np.array([0.5, 0.5, -0.5, -0.5, 0.05, -0.05, -0.9, 0.3])
"""lp - q: ratios of 1.65, 0.61, 0.95 to 1.05, and 0.41, on both sides of every default clip."""

Formula = Callable[[Floats, Floats, Settings], tuple[Floats, Floats]]
"""From lp and q to the losses of all positions and their derivatives, for `ADVANTAGES`."""


def _importance_sampling(lp: Floats, q: Floats, _: Settings) -> tuple[Floats, Floats]:
    loss = -np.exp(lp - q) * ADVANTAGES
    return loss, loss


def _ppo(lp: Floats, q: Floats, s: Settings) -> tuple[Floats, Floats]:
    ratio = np.exp(lp - q)
    bounded = np.clip(ratio, s["clip_low_threshold"], s["clip_high_threshold"])
    free, held = ratio * ADVANTAGES, bounded * ADVANTAGES
    return -np.minimum(free, held), np.where((free <= held) | (bounded == ratio), -free, 0.0)


def _cispo(lp: Floats, q: Floats, s: Settings) -> tuple[Floats, Floats]:
    ratio = np.exp(lp - q)
    bounded = np.clip(ratio, s["clip_low_threshold"], s["clip_high_threshold"])
    return -bounded * lp * ADVANTAGES, -bounded * ADVANTAGES


def _dro(lp: Floats, q: Floats, s: Settings) -> tuple[Floats, Floats]:
    gap = lp - q
    loss = -(lp * ADVANTAGES - 0.5 * s["beta"] * gap**2)
    return loss, -(ADVANTAGES - s["beta"] * gap)


def _dppo(lp: Floats, q: Floats, s: Settings) -> tuple[Floats, Floats]:
    ratio, gap, shift = np.exp(lp - q), lp - q, np.exp(lp) - np.exp(q)
    dropped = np.where(ADVANTAGES > 0, shift > s["dppo_mask_high"], shift < -s["dppo_mask_low"])
    policy = np.where(dropped, 0.0, s["adv_tau"] * ADVANTAGES * ratio)
    return -policy + s["kl_tau"] * gap**2, -policy + 2 * s["kl_tau"] * gap


@dataclass(frozen=True, slots=True)
class Case:
    """A loss.

    Attributes:
        name: as clients call it.
        formula: its losses and derivatives.
        defaults: its settings as they are when nothing is said.
        others: settings with another effect.
    """

    name: str
    formula: Formula
    defaults: Settings
    others: Settings


CASES: Final = {
    case.name: case
    for case in (
        Case("importance_sampling", _importance_sampling, {}, {}),
        Case(
            "ppo",
            _ppo,
            {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2},
            {"clip_low_threshold": 0.5, "clip_high_threshold": 1.02},
        ),
        Case(
            "cispo",
            _cispo,
            {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2},
            {"clip_low_threshold": 0.5, "clip_high_threshold": 1.02},
        ),
        Case("dro", _dro, {"beta": 0.05}, {"beta": 1.5}),
        Case(
            "dppo",
            _dppo,
            {"dppo_mask_high": 0.2, "dppo_mask_low": 0.2, "adv_tau": 1.0, "kl_tau": 1e-3},
            {"dppo_mask_high": 1e-4, "dppo_mask_low": 1e-4, "adv_tau": 0.5, "kl_tau": 0.3},
        ),
    )
}
"""The losses that compare a policy with the one that sampled."""


def _sampled(lp: Floats) -> Datum:
    """Return the text with behaviour log-probabilities that are `GAPS` below the trainer's."""
    return make_datum(TEXT, logprobs=lp - GAPS, advantages=ADVANTAGES)


def _check_value(subject: Subject, case: Case, settings: Settings, said: Settings) -> None:
    trainer = subject.trainer()
    lp = look(trainer)
    q = (lp - GAPS).astype(np.float32).astype(np.float64)
    output = run_loss(trainer, [_sampled(lp)], case.name, dict(said) or None)
    losses, _ = case.formula(lp, q, settings)
    expected = float(losses[:-1].sum() / 7)
    # Relative: a loss of size 5 is rounded to 1e-6 of it.
    expect_near(f"{case.name} is as the page says", output.loss, expected, atol=5e-4)


def _check_gradient(subject: Subject, case: Case) -> None:
    plain, twin = subject.trainer(), subject.trainer()
    lp = look(plain)
    run_loss(plain, [_sampled(lp)], case.name, dict(case.others) or None, backward=True)
    _, derivative = case.formula(lp, lp - GAPS, case.others)
    weights = np.where(ADVANTAGES == 0, 0.0, -derivative)
    # A mean over those with weight there, over seven here.
    scaled = weights * np.count_nonzero(weights) / 7
    one = apply(plain)
    two = step(twin, [make_datum(TEXT, weights=scaled)])
    expect_near("grad_norm is the formula's", one["grad_norm"] / two["grad_norm"], 1.0, atol=1e-3)
    expect_near("the step is the formula's", look(plain), look(twin), atol=1e-3)


def _promise(case: Case) -> None:
    needs = {"train", f"loss:{case.name}"}
    word = case.name.replace("_", "-")

    @rule(
        f"rl.{word}-is-the-formula",
        title=f"{case.name} is the sum of the page over the active positions, as a mean",
        section="5.2",
        needs=needs,
    )
    def value(subject: Subject) -> None:
        """Say nothing about settings: the defaults are those of the page."""
        _check_value(subject, case, case.defaults, {})

    @rule(
        f"rl.{word}-is-graded",
        title=f"The gradient of {case.name} is its formula's derivative",
        section="5.2",
        needs=needs,
    )
    def gradient(subject: Subject) -> None:
        """Compare a step with one of weighted cross-entropy."""
        _check_gradient(subject, case)

    if case.others:

        @rule(
            f"rl.{word}-settings-are-honoured",
            title=f"The settings {', '.join(case.others)} of {case.name} are honoured",
            section="5.1",
            needs=needs,
        )
        def settings(subject: Subject) -> None:
            """Say other settings."""
            _check_value(subject, case, case.others, case.others)

    del value, gradient


for _case in CASES.values():
    _promise(_case)


@rule(
    "rl.advantage-zero-is-inactive",
    title="A position of advantage 0 is inactive: not counted, not graded, and logprob 0 or null",
    section="5.3",
    needs={"train", "loss:importance_sampling"},
)
def advantage_zero_is_inactive(subject: Subject) -> None:
    """Give the last two positions advantage 0; and cut them off."""
    long, short = subject.trainer(), subject.trainer()
    lp = look(long)
    name, ones = "importance_sampling", np.ones(8)
    quiet = make_datum(TEXT, logprobs=lp, advantages=np.where(np.arange(8) < 6, ones, 0.0))
    cut = make_datum(TEXT[:7], logprobs=lp[:6], advantages=ones[:6])
    one = run_loss(long, [quiet], name, backward=True)
    two = run_loss(short, [cut], name, backward=True)
    expect_near("the loss is that of six", one.loss, two.loss)
    norms = [apply(trainer)["grad_norm"] for trainer in (long, short)]
    expect_near("so is the gradient", norms[0], norms[1], atol=1e-3 * norms[1])
    rest = logprobs_of(one)[6:]
    expect((np.isnan(rest) | (rest == 0)).all(), "they have no logprob", seen=rest.tolist())


@rule(
    "rl.one-advantage-is-for-the-row",
    title="One advantage, of shape [1], is that of every position",
    section="5.1",
    needs={"train", "loss:importance_sampling"},
)
def one_advantage_is_for_the_row(subject: Subject) -> None:
    """Give one, and eight of it."""
    trainer = subject.trainer()
    q = look(trainer) - GAPS
    one, many = (
        run_loss(
            trainer,
            [make_datum(TEXT, logprobs=q, advantages=advantages)],
            "importance_sampling",
        ).loss
        for advantages in ([1.5], [1.5] * 8)
    )
    expect_near("both give one loss", one, many)


@rule(
    "rl.ratio-losses-ignore-targets",
    title="An ignored target has no loss, whatever its advantage",
    section="5.3",
    needs={"train", "loss:importance_sampling"},
)
def ratio_losses_ignore_targets(subject: Subject) -> None:
    """Ignore the last two targets, with large advantages."""
    trainer = subject.trainer()
    lp = look(trainer)
    targets = [*TEXT[1:7], IGNORED_TARGET, IGNORED_TARGET]
    masked = make_datum(TEXT, targets=targets, logprobs=lp, advantages=[1.0] * 6 + [50.0] * 2)
    loss = run_loss(trainer, [masked], "importance_sampling").loss
    expect_near("six ratios of 1 give -1", loss, -1.0)


@rule(
    "rl.a-missing-input-is-refused",
    title="A loss whose input is missing is refused, and names the input",
    section="5.1",
    needs={"train", "loss:importance_sampling"},
)
def a_missing_input_is_refused(subject: Subject) -> None:
    """Leave advantages out."""
    trainer = subject.trainer()
    bare = make_datum(TEXT, logprobs=[0.0] * 8)
    expect_refused(
        "advantages are needed",
        lambda: trainer.forward_backward([bare], "importance_sampling").result(),
        "advantages",
    )


@rule(
    "rl.ppo-clips-at-its-bounds",
    title="ppo has no gradient beyond a bound in the advantage's direction, but has it against it",
    section="5.2",
    needs={"train", "loss:ppo"},
)
def ppo_clips_at_its_bounds(subject: Subject) -> None:
    """All ratios are 1.65: advantage 1 leaves nothing to learn, advantage -1 does."""
    trainer = subject.trainer()
    q = look(trainer) - 0.5
    stay = ADAM.model_copy(update={"learning_rate": 0.0})
    norms: dict[float, float] = {}
    for advantage in (1.0, -1.0):
        datum = make_datum(TEXT, logprobs=q, advantages=[advantage] * 8)
        run_loss(trainer, [datum], "ppo", backward=True)
        norms[advantage] = apply(trainer, stay)["grad_norm"]
    expect(norms[1.0] < 1e-6, "nothing beyond the upper bound", grad_norms=norms)
    expect(norms[-1.0] > 1e-3, "all of it against the bound", grad_norms=norms)
