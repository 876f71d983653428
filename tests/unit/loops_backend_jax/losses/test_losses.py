"""Each loss and its gradient against the mock's, which are written by hand in float64."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# (jax.grad says little of what it returns)
from __future__ import annotations

from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import loops_mock.losses
from loops_backend_jax.losses import make_losses
from loops_core.protocols import LossSettings
from loops_core.protocols.loss_settings import complete_settings

LOSSES: Final = make_losses()
TWINS: Final = loops_mock.losses.EXACT_LOSSES
SIZE: Final = 400
# float32 keeps 24 bits, and exp of a log-ratio of up to 3 triples what its argument lost.
RTOL, ATOL = 2e-6, 2e-6


def draw_inputs(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return logprobs and every input of every loss, float32; some advantages are 0."""
    g = np.random.default_rng(seed)
    logprobs = -g.exponential(1.0, SIZE)
    inputs = {
        "logprobs": np.minimum(logprobs + g.normal(0.0, 0.4, SIZE), -1e-3),
        "advantages": g.normal(0.0, 1.0, SIZE) * (g.random(SIZE) < 0.8),
        "weights": g.normal(0.5, 1.0, SIZE),
        "ref_logprobs": logprobs + g.normal(0.0, 0.4, SIZE),
    }
    narrowed = {name: values.astype(np.float32) for name, values in inputs.items()}
    return logprobs.astype(np.float32), narrowed


def settings_of(name: str, **config: float) -> LossSettings:
    return complete_settings(LOSSES[name], config)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("cross_entropy", {}),
        ("importance_sampling", {}),
        ("ppo", {}),
        ("ppo", {"clip_low_threshold": 0.95, "clip_high_threshold": 1.01}),
        ("cispo", {}),
        ("cispo", {"clip_low_threshold": 0.0, "clip_high_threshold": 4.0}),
        ("dro", {}),
        ("dro", {"beta": 3.0}),
        ("dppo", {}),
        ("dppo", {"dppo_mask_high": 0.05, "dppo_mask_low": 0.01, "adv_tau": 2.0, "kl_tau": 0.5}),
        ("dpo", {}),
    ],
)
def test_values_and_gradients_are_those_of_the_twin(name: str, config: dict[str, float]) -> None:
    logprobs, inputs = draw_inputs(seed=len(name))
    settings = settings_of(name, **config)
    wide = {key: values.astype(np.float64) for key, values in inputs.items()}
    expected = TWINS[name].function.compute(logprobs.astype(np.float64), wide, settings)
    slope = TWINS[name].derivative(logprobs.astype(np.float64), wide, settings)

    def loss_sum(lp: jax.Array) -> jax.Array:
        return LOSSES[name].compute(lp, to_jax(inputs), settings).sum()

    found = LOSSES[name].compute(jnp.asarray(logprobs), to_jax(inputs), settings)
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=ATOL)
    np.testing.assert_allclose(jax.grad(loss_sum)(logprobs), slope, rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("thresholds", [(1.0, 1.0), (0.8, 1.2), (1.0, 2.0)])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_ppo_on_its_bounds_passes_the_whole_gradient(
    thresholds: tuple[float, float], advantage: float
) -> None:
    low, high = thresholds
    settings = settings_of("ppo", clip_low_threshold=low, clip_high_threshold=high)
    inputs = {"logprobs": jnp.float32(-1.0), "advantages": jnp.float32(advantage)}
    slope = jax.grad(lambda lp: LOSSES["ppo"].compute(lp, inputs, settings))(jnp.float32(-1.0))
    assert float(slope) == -advantage


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_pairs_are_those_of_the_twin(smoothing: float) -> None:
    ratios = np.random.default_rng(3).normal(0.0, 20.0, (50, 2)).astype(np.float32)
    ratios[0] = [3000.0, -3000.0]
    settings = settings_of("dpo", beta=0.3, label_smoothing=smoothing)
    combine, twin = LOSSES["dpo"].combine, TWINS["dpo"]
    assert combine is not None
    assert twin.function.combine is not None
    assert twin.combine_derivative is not None
    wide = ratios.astype(np.float64)
    np.testing.assert_allclose(
        combine(jnp.asarray(ratios), settings), twin.function.combine(wide, settings), rtol=1e-6
    )
    found = jax.grad(lambda x: combine(x, settings).sum())(ratios)
    expected = twin.combine_derivative(wide, settings)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def to_jax(inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: jnp.asarray(values) for name, values in inputs.items()}
