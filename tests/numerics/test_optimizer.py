"""The optimizer step against a numpy twin in float64."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
from tests.numerics.cases import to_jax

from loops_backend_jax.lora.adapter import Factors
from loops_backend_jax.train.step import AdamScalars, OptimResult, optim_pass

num_compiled: Callable[[object], int] = operator.methodcaller("_cache_size")
SCALARS = AdamScalars(
    learning_rate=1e-2,
    beta1=0.9,
    beta2=0.95,
    eps=1e-12,
    weight_decay=0.1,
    grad_clip_norm=1.0,
    divisor=4.0,
)
START, GRADIENTS = np.random.default_rng(0).standard_normal((2, 3, 6, 5))


def tree(array: np.ndarray) -> Factors:
    """Return two leaves that together hold the array."""
    return {"mlp": {"lora_a": to_jax(array[:2]), "lora_b": to_jax(array[2:])}}


def flat(factors: Factors) -> np.ndarray:
    branch = factors["mlp"]
    assert isinstance(branch, dict)
    return np.concatenate([np.asarray(branch["lora_a"]), np.asarray(branch["lora_b"])])


def run(scalars: AdamScalars, gradients: list[np.ndarray]) -> list[OptimResult]:
    factors, first, second = tree(START), tree(0 * START), tree(0 * START)
    results: list[OptimResult] = []
    for step, gradient in enumerate(gradients):
        inputs = (factors, first, second, tree(gradient), step, scalars)
        result = cast("OptimResult", optim_pass(*inputs))
        results.append(result)
        kept = [tree(flat(x)) for x in (result.factors, result.first_moment, result.second_moment)]
        factors, first, second = kept
    return results


def numpy_adam(scalars: AdamScalars, gradients: list[np.ndarray]) -> tuple[np.ndarray, list[float]]:
    """Return factors after all steps, and the norms."""
    norms: list[float] = []
    x, first, second = START.copy(), np.zeros_like(START), np.zeros_like(START)
    for step, gradient in enumerate(gradients, start=1):
        mean = gradient / scalars.divisor
        norms.append(float(np.linalg.norm(mean)))
        if 0 < scalars.grad_clip_norm < norms[-1]:
            mean = mean * scalars.grad_clip_norm / norms[-1]
        first = scalars.beta1 * first + (1 - scalars.beta1) * mean
        second = scalars.beta2 * second + (1 - scalars.beta2) * mean**2
        up = first / (1 - scalars.beta1**step)
        down = second / (1 - scalars.beta2**step)
        decay = scalars.learning_rate * scalars.weight_decay
        x = (1 - decay) * x - scalars.learning_rate * up / (np.sqrt(down) + scalars.eps)
    return x, norms


@pytest.mark.parametrize(
    "scalars",
    [
        SCALARS,
        SCALARS._replace(grad_clip_norm=0.0),
        SCALARS._replace(grad_clip_norm=100.0),
        SCALARS._replace(weight_decay=0.0, eps=0.1),
        SCALARS._replace(divisor=1.0, beta1=0.0),
    ],
)
def test_three_steps_are_those_of_adam(scalars: AdamScalars) -> None:
    gradients = [GRADIENTS, -0.5 * GRADIENTS + 0.1, GRADIENTS**2]
    results = run(scalars, gradients)
    expected, norms = numpy_adam(scalars, gradients)
    # float32 against float64; a step moves a factor of size 1 by 1e-2
    np.testing.assert_allclose(flat(results[-1].factors), expected, rtol=0, atol=2e-6)
    np.testing.assert_allclose([float(r.grad_norm) for r in results], norms, rtol=1e-5)
    assert all(bool(result.ok) for result in results)


def test_zero_gradients_move_nothing_without_decay() -> None:
    (result,) = run(SCALARS._replace(weight_decay=0.0), [0 * GRADIENTS])
    assert np.array_equal(flat(result.factors), START.astype(np.float32))
    assert float(result.grad_norm) == 0.0


@pytest.mark.parametrize(
    ("scalars", "gradient"),
    [(SCALARS, GRADIENTS * np.inf), (SCALARS._replace(learning_rate=3e38), GRADIENTS)],
)
def test_a_step_to_infinity_leaves_everything_as_it_was(
    scalars: AdamScalars, gradient: np.ndarray
) -> None:
    (result,) = run(scalars, [gradient])
    assert not bool(result.ok)
    assert np.array_equal(flat(result.factors), START.astype(np.float32))
    assert not flat(result.first_moment).any()
    assert not flat(result.second_moment).any()


def test_another_schedule_compiles_nothing() -> None:
    run(SCALARS, [GRADIENTS])
    compiled = num_compiled(optim_pass)
    run(SCALARS._replace(learning_rate=3e-4, grad_clip_norm=0.0, beta2=0.99), [GRADIENTS] * 2)
    assert num_compiled(optim_pass) == compiled
