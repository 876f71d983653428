"""Every loss of the mock: values as the formula says, derivatives as finite differences say."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from loops_core.protocols.loss_settings import complete_settings
from loops_mock.exact import Floats
from loops_mock.losses import EXACT_LOSSES

# A central difference with this step errs by about STEP^2 + 1e-16 / STEP of the values' size.
STEP = 1e-5
TOLERANCE = 1e-8

Formula = Callable[[float, float, float, Mapping[str, float | bool]], float]


def clipped(r: float, s: Mapping[str, float | bool]) -> float:
    return min(max(r, s["clip_low_threshold"]), s["clip_high_threshold"])


def drops(lp: float, q: float, a: float, s: Mapping[str, float | bool]) -> bool:
    d = math.exp(lp) - math.exp(q)
    return d > s["dppo_mask_high"] if a > 0 else d < -s["dppo_mask_low"]


# One number at a time, by the protocol's table: logprob, sampling logprob, advantage, settings.
FORMULAS: dict[str, Formula] = {
    "importance_sampling": lambda lp, q, a, _: -math.exp(lp - q) * a,
    "ppo": lambda lp, q, a, s: -min(math.exp(lp - q) * a, clipped(math.exp(lp - q), s) * a),
    "cispo": lambda lp, q, a, s: -clipped(math.exp(lp - q), s) * lp * a,
    "dro": lambda lp, q, a, s: -(lp * a - 0.5 * s["beta"] * (lp - q) ** 2),
    "dppo": lambda lp, q, a, s: (
        -(0.0 if drops(lp, q, a, s) else s["adv_tau"] * a * math.exp(lp - q))
        + s["kl_tau"] * (lp - q) ** 2
    ),
}

CONFIGS: dict[str, dict[str, float]] = {
    "importance_sampling": {},
    "ppo": {"clip_low_threshold": 0.5, "clip_high_threshold": 3.0},
    "cispo": {"clip_low_threshold": 0.0, "clip_high_threshold": 4.0},
    "dro": {"beta": 0.7},
    "dppo": {"dppo_mask_high": 0.05, "dppo_mask_low": 0.4, "adv_tau": 0.5, "kl_tau": 0.3},
}

logprobs = st.floats(-6.0, -0.01)
advantages = st.floats(-3.0, 3.0).filter(lambda a: abs(a) > 1e-3)


@pytest.mark.parametrize("default", [True, False], ids=["defaults", "configured"])
@pytest.mark.parametrize("name", FORMULAS)
@given(st.lists(st.tuples(logprobs, logprobs, advantages), min_size=1, max_size=5))
def test_values_are_those_of_the_formula(
    name: str, default: bool, positions: list[tuple[float, float, float]]
) -> None:
    loss = EXACT_LOSSES[name].function
    settings = complete_settings(loss, {} if default else CONFIGS[name])
    lp, q, a = (np.array(column) for column in zip(*positions, strict=True))
    found = loss.compute(lp, {"logprobs": q, "advantages": a}, settings)
    expected = [FORMULAS[name](*position, settings) for position in positions]
    # The formula's exp is the C library's: it differs in the last place, a product of r in three.
    assert found.tolist() == pytest.approx(expected, rel=1e-14, abs=1e-14)


@pytest.mark.parametrize("default", [True, False], ids=["defaults", "configured"])
@pytest.mark.parametrize("name", [*FORMULAS, "cross_entropy", "dpo"])
@given(logprobs, logprobs, advantages)
def test_derivatives_agree_with_finite_differences(
    name: str, default: bool, lp: float, q: float, a: float
) -> None:
    loss = EXACT_LOSSES[name]
    settings = complete_settings(loss.function, {} if default else CONFIGS.get(name, {}))
    assume(all(abs(gap) > 10 * STEP for gap in kinks(name, lp, q, settings)))
    inputs = {k: np.array([v]) for k, v in inputs_of(name, q, a).items()}
    up, down = (value_of(name, lp + step, lp, inputs, settings) for step in (STEP, -STEP))
    (found,) = loss.derivative(np.array([lp]), inputs, settings).tolist()
    # Values here are up to 400 * 3, and so are their third derivatives.
    assert found == pytest.approx((up - down) / (2 * STEP), rel=1e-6, abs=1e-6)


def inputs_of(name: str, q: float, a: float) -> dict[str, float]:
    if name == "cross_entropy":
        return {"weights": a}
    if name == "dpo":
        return {"ref_logprobs": q, "weights": a}
    return {"logprobs": q, "advantages": a}


def kinks(name: str, lp: float, q: float, s: Mapping[str, float | bool]) -> list[float]:
    """Return how far the position is from where the loss has no derivative."""
    r = math.exp(lp - q)
    if name in ("ppo", "cispo"):
        return [r - s["clip_low_threshold"], r - s["clip_high_threshold"]]
    if name == "dppo":
        d = math.exp(lp) - math.exp(q)
        return [d - s["dppo_mask_high"], d + s["dppo_mask_low"]]
    return []


def value_of(
    name: str,
    lp: float,
    stopped: float,
    inputs: Mapping[str, Floats],
    settings: Mapping[str, float | bool],
) -> float:
    """Return the loss at `lp`; where the loss stops the gradient of the ratio, at `stopped`."""
    if name == "cispo":
        q, a = float(inputs["logprobs"][0]), float(inputs["advantages"][0])
        return -clipped(math.exp(stopped - q), settings) * lp * a
    return float(EXACT_LOSSES[name].function.compute(np.array([lp]), inputs, settings)[0])


def test_losses_without_weights_are_those_with_weights_of_one() -> None:
    lp, ref = np.array([-1.0, -2.5]), np.array([-0.5, -3.0])
    for name, inputs in [("cross_entropy", {}), ("dpo", {"ref_logprobs": ref})]:
        loss = EXACT_LOSSES[name]
        settings = complete_settings(loss.function, {})
        weighted = {**inputs, "weights": np.ones(2)}
        for function in (loss.function.compute, loss.derivative):
            assert function(lp, inputs, settings).tolist() == (
                function(lp, weighted, settings).tolist()
            )


def test_a_ratio_beyond_float64_is_infinite_and_its_clipped_loss_is_not() -> None:
    inputs = {"logprobs": np.array([-1e4]), "advantages": np.array([1.0])}
    settings = complete_settings(EXACT_LOSSES["ppo"].function, {})
    with np.errstate(over="ignore"):
        assert EXACT_LOSSES["ppo"].function.compute(np.array([-1.0]), inputs, settings) == [-1.2]
        assert EXACT_LOSSES["ppo"].derivative(np.array([-1.0]), inputs, settings) == [0.0]


def test_every_loss_cites_its_source() -> None:
    for loss in EXACT_LOSSES.values():
        function = loss.function.combine or loss.function.compute
        assert "Source:" in str(function.__doc__)
        assert loss.function.source
