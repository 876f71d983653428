"""What the optimizer promises: Adam as published, and a state that says all there is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loops_core.errors import UsageError
from loops_core.types.training import AdamParams
from loops_mock.config import ModelConfig
from loops_mock.exact import draw_uniform
from loops_mock.model import Adapter, Factors, make_adapter
from loops_mock.state import Pending, TrainerState, apply_adam

CONFIG = ModelConfig(name="mock-adam", vocab_size=7, hidden_size=4)
Flat = NDArray[np.float64]


def flatten(factors_by_site: dict[str, Factors]) -> Flat:
    parts = [np.ravel(part) for factors in factors_by_site.values() for part in factors]
    return np.concatenate(parts).astype(np.float64)


def make_gradient(step: int) -> dict[str, Flat]:
    """Return a gradient for the whole matrix of each place."""
    return {
        site: draw_uniform(f"{step}{site}", fan_in, fan_out) - 0.5
        for site, (fan_in, fan_out) in CONFIG.sites().items()
    }


def factor_gradient(step: int, w: Flat, scale: float) -> Flat:
    """Return the gradient of the flat factors: d / dA = s G B^T and d / dB = s A^T G."""
    parts: list[Flat] = []
    for site, (fan_in, fan_out) in CONFIG.sites().items():
        lora_a, lora_b, w = np.split(w, [2 * fan_in, 2 * (fan_in + fan_out)])
        whole = scale * make_gradient(step)[site]
        parts += [whole @ lora_b.reshape(2, fan_out).T, lora_a.reshape(fan_in, 2).T @ whole]
    return np.concatenate([part.ravel() for part in parts])


def run_steps(
    params: AdamParams, steps: int, *, active: int = 3, skip_normalization: bool = False
) -> tuple[TrainerState, list[dict[str, float]]]:
    state = TrainerState.fresh(make_adapter(CONFIG, rank=2, alpha=32.0, seed=1))
    metrics: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        pending = Pending(make_gradient(step), active, skip_normalization)
        state, seen = apply_adam(replace(state, pending=pending), params)
        metrics.append(seen)
    return state, metrics


def twin(params: AdamParams, steps: int, divisor: float) -> tuple[Flat, list[float]]:
    """Return weights and norms of Adam as the papers write it, on one flat float64 vector.

    Gradients are taken at the weights that `apply_adam` left, which are rounded: so a rounding
    does not come back larger through a later gradient.
    """
    adapter = make_adapter(CONFIG, rank=2, alpha=32.0, seed=1)
    w = flatten(dict(adapter.factors))
    m, v, norms = np.zeros_like(w), np.zeros_like(w), list[float]()
    for t in range(1, steps + 1):
        seen = flatten(dict(run_steps(params, t - 1)[0].adapter.factors))
        g = factor_gradient(t, seen, adapter.scale) / divisor
        norms.append(float(np.linalg.norm(g)))
        if params.grad_clip_norm and norms[-1] > params.grad_clip_norm:
            g = g * params.grad_clip_norm / norms[-1]
        m = params.beta1 * m + (1 - params.beta1) * g
        v = params.beta2 * v + (1 - params.beta2) * g**2
        m_hat, v_hat = m / (1 - params.beta1**t), v / (1 - params.beta2**t)
        w = w - params.learning_rate * (
            m_hat / (np.sqrt(v_hat) + params.eps) + params.weight_decay * w
        )
    return w, norms


@given(
    st.builds(
        AdamParams,
        learning_rate=st.floats(0.0, 0.1),
        beta1=st.floats(0.0, 0.99),
        beta2=st.floats(0.0, 0.999),
        eps=st.sampled_from([1e-12, 1e-8]),
        weight_decay=st.floats(0.0, 0.1),
        grad_clip_norm=st.sampled_from([0.0, 0.1, 1.0]),
    ),
    st.integers(1, 4),
)
def test_steps_agree_with_adam_as_published(params: AdamParams, steps: int) -> None:
    state, metrics = run_steps(params, steps)
    weights, norms = twin(params, steps, divisor=3.0)
    # Weights and moments are rounded to float32 after each step: 6e-8 of a weight of about 0.5, and
    # of an update that learning_rate bounds.
    np.testing.assert_allclose(flatten(dict(state.adapter.factors)), weights, atol=3e-7)
    assert [seen["grad_norm"] for seen in metrics] == pytest.approx(norms, rel=1e-12)


def test_metrics_say_what_the_step_used() -> None:
    _state, metrics = run_steps(AdamParams(learning_rate=0.03), 2, active=5)
    assert [seen["step"] for seen in metrics] == [1.0, 2.0]
    assert [seen["learning_rate"] for seen in metrics] == [0.03, 0.03]
    assert [seen["active_tokens"] for seen in metrics] == [5.0, 5.0]


def test_gradients_that_skip_normalisation_are_not_divided() -> None:
    _state, plain = run_steps(AdamParams(), 1, active=4, skip_normalization=True)
    _state, divided = run_steps(AdamParams(), 1, active=4)
    assert plain[0]["grad_norm"] == 4 * divided[0]["grad_norm"]


def test_a_step_empties_the_gradients() -> None:
    state, _metrics = run_steps(AdamParams(), 1)
    assert state.pending is None


def test_a_step_without_gradients_is_refused() -> None:
    state, _metrics = run_steps(AdamParams(), 1)
    with pytest.raises(UsageError, match="no gradients"):
        apply_adam(state, AdamParams())


def test_a_step_that_leaves_float32_is_refused() -> None:
    with pytest.raises(UsageError, match="not finite"):
        run_steps(AdamParams(learning_rate=1e300), 1)


def make_states() -> list[TrainerState]:
    """Return states of which each differs from the first in one thing."""
    state, _metrics = run_steps(AdamParams(), 1)
    adapter, pending = state.adapter, Pending(make_gradient(9), 3, False)
    site, factors = next(iter(adapter.factors.items()))
    flipped = Factors(-factors.lora_a, factors.lora_b)
    fewer = Adapter(rank=2, alpha=32.0, factors={site: factors})
    return [
        state,
        replace(state, adapter=replace(adapter, factors={**adapter.factors, site: flipped})),
        replace(state, adapter=replace(adapter, alpha=16.0)),
        replace(state, adapter=fewer),
        replace(state, first=state.second),
        replace(state, second=state.first),
        replace(state, step=2),
        replace(state, pending=pending),
        replace(state, pending=replace(pending, active=4)),
        replace(state, pending=replace(pending, skip_normalization=True)),
        replace(state, pending=replace(pending, gradient=make_gradient(8))),
    ]


def test_states_that_differ_in_anything_differ_in_digest() -> None:
    digests = [state.digest() for state in make_states()]
    assert len(set(digests)) == len(digests)


def test_equal_states_have_equal_digests() -> None:
    assert [s.digest() for s in make_states()] == [s.digest() for s in make_states()]
