"""What a pass over data promises: padding, splitting, ignored positions, gradients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from tests.numerics.cases import (
    draw_factors,
    final_logits,
    flat_gradients,
    make_datum,
    run_data,
)

from loops_backend_jax.lora.adapter import ALL_TARGETS, AdapterSpec, Factors, make_adapter_spec
from loops_backend_jax.lora.tree import iter_arrays, put_array
from loops_backend_jax.weights.load import BaseModel
from loops_core.protocols import Array, LossFunction, LossInput
from loops_core.types.datum import Datum

pytestmark = pytest.mark.slow  # every shape compiles

SPEC = make_adapter_spec(rank=2, alpha=4.0)
# Other shapes add float32 numbers in another order: log-probabilities of 5 to 30 move by up to 2e-5
# (seen), gradients by about 1e-6 of their norm.
LOGPROB_ATOL, GRADIENT_RTOL = 1e-4, 1e-5


@pytest.fixture(scope="module")
def factors(tiny: BaseModel) -> Factors:
    return draw_factors(tiny.config, SPEC)


@pytest.fixture(scope="module")
def data() -> list[Datum]:
    """Return four weighted datums of several lengths."""
    g = np.random.default_rng(2)
    found: list[Datum] = []
    for length in (5, 16, 9, 20):
        tokens, targets = g.integers(3, 320, (2, length))
        targets[: length // 3] = -100
        weights = g.uniform(-0.5, 1.5, length).astype(np.float32)
        found.append(make_datum(tokens, target_tokens=targets, weights=weights))
    return found


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.linalg.norm(found - expected) <= GRADIENT_RTOL * np.linalg.norm(expected)


def test_padding_changes_no_logprob(tiny: BaseModel, factors: Factors, data: list[Datum]) -> None:
    result = run_data(tiny, SPEC, factors, data)
    for datum, found in zip(data, result.logprobs, strict=True):
        tokens = np.asarray(datum.model_input.to_ints())[None]
        logits = final_logits(tiny, tokens, factors, scale=SPEC.scale)[0].astype(np.float64)
        targets = datum.loss_fn_inputs["target_tokens"].to_numpy()
        scored = targets != -100
        top = logits.max(-1)
        norm = np.log(np.exp(logits - top[:, None]).sum(-1)) + top
        expected = logits[np.arange(len(targets)), np.maximum(targets, 0)] - norm
        np.testing.assert_allclose(found[scored], expected[scored], rtol=0, atol=LOGPROB_ATOL)


def test_several_calls_add_up_to_one(tiny: BaseModel, factors: Factors, data: list[Datum]) -> None:
    whole = run_data(tiny, SPEC, factors, data)
    parts = [run_data(tiny, SPEC, factors, data[:2]), run_data(tiny, SPEC, factors, data[2:])]
    assert sum(part.num_active for part in parts) == whole.num_active
    added = np.sum([flat_gradients(part) for part in parts], axis=0)
    assert_close(added, flat_gradients(whole))


def test_the_size_of_batches_changes_no_result(
    tiny: BaseModel, factors: Factors, data: list[Datum]
) -> None:
    whole = run_data(tiny, SPEC, factors, data)
    one_by_one = run_data(tiny, SPEC, factors, data, max_batch_tokens=1)
    assert_close(flat_gradients(one_by_one), flat_gradients(whole))
    for found, expected in zip(one_by_one.logprobs, whole.logprobs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=LOGPROB_ATOL)


def test_the_order_of_data_is_the_order_of_results(
    tiny: BaseModel, factors: Factors, data: list[Datum]
) -> None:
    forward = run_data(tiny, SPEC, factors, data).logprobs
    backward = run_data(tiny, SPEC, factors, data[::-1]).logprobs[::-1]
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=LOGPROB_ATOL)


def test_chunks_of_logits_change_no_result(
    tiny: BaseModel, factors: Factors, data: list[Datum]
) -> None:
    whole = run_data(tiny, SPEC, factors, data)
    chunked = run_data(tiny, SPEC, factors, data, max_logits_bytes=4 * 320 * 8)
    assert_close(flat_gradients(chunked), flat_gradients(whole))


def test_ignored_positions_reach_no_gradient_not_even_as_nan(
    tiny: BaseModel, factors: Factors
) -> None:
    tokens = np.arange(3, 13)
    targets = np.array([-100, -100, 7, 8, -100, 9, 10, -100, -100, -100])
    weights = np.where(targets == -100, 0, 0.5).astype(np.float32)
    poisoned = np.where(targets == -100, np.nan, 0.5).astype(np.float32)
    clean = run_data(
        tiny, SPEC, factors, [make_datum(tokens, target_tokens=targets, weights=weights)]
    )
    dirty = run_data(
        tiny, SPEC, factors, [make_datum(tokens, target_tokens=targets, weights=poisoned)]
    )
    assert np.isfinite(flat_gradients(dirty)).all()
    assert np.array_equal(flat_gradients(dirty), flat_gradients(clean))
    assert (dirty.loss_sum, dirty.num_active) == (clean.loss_sum, 4)


def squared(
    target_logprobs: Array, inputs: Mapping[str, Array], settings: Mapping[str, float | bool]
) -> Array:
    """Return a loss that is not zero where nothing counts."""
    del inputs, settings
    return (target_logprobs - 3.0) ** 2


def test_any_loss_counts_active_positions_only(tiny: BaseModel, factors: Factors) -> None:
    gate = LossInput(name="advantages")
    loss = LossFunction(
        name="squared",
        compute=squared,
        source="made up for this test",
        inputs=(gate,),
        active_input="advantages",
    )
    tokens, targets = np.arange(3, 9), np.array([4, -100, 6, 7, 8, 9])
    advantages = np.array([1, 1, 0, 2, 0, 0], np.float32)
    gated = make_datum(tokens, target_tokens=targets, advantages=advantages)
    few = np.where(advantages == 0, -100, targets)
    kept = make_datum(tokens, target_tokens=few, advantages=np.ones(6, np.float32))
    one, other = (run_data(tiny, SPEC, factors, [datum], loss=loss) for datum in (gated, kept))
    assert one.num_active == other.num_active == 2
    expected = np.sum((one.logprobs[0][[0, 3]] - 3.0) ** 2)
    assert one.loss_sum == pytest.approx(float(expected), rel=1e-6)  # a float32 sum of two
    assert np.array_equal(flat_gradients(one), flat_gradients(other))


def test_tokens_behind_the_last_target_change_nothing(tiny: BaseModel, factors: Factors) -> None:
    targets = np.array([4, 5, 6, -100, -100])
    one = run_data(tiny, SPEC, factors, [make_datum([3, 4, 5, 6, 7], target_tokens=targets)])
    other = run_data(tiny, SPEC, factors, [make_datum([3, 4, 5, 300, 9], target_tokens=targets)])
    assert np.array_equal(flat_gradients(one), flat_gradients(other))


def test_k_targets_equal_k_separate_ones(tiny: BaseModel, factors: Factors) -> None:
    g = np.random.default_rng(4)
    tokens, targets = g.integers(3, 320, 12), g.integers(3, 320, (12, 3))
    targets[:2], targets[5, 1] = -100, -100
    weights = g.uniform(-0.5, 1.5, (12, 3)).astype(np.float32)
    together = run_data(
        tiny, SPEC, factors, [make_datum(tokens, target_tokens=targets, weights=weights)]
    )
    apart = [
        run_data(
            tiny,
            SPEC,
            factors,
            [make_datum(tokens, target_tokens=targets[:, k], weights=weights[:, k])],
        )
        for k in range(3)
    ]
    added = np.sum([flat_gradients(one) for one in apart], axis=0)
    assert_close(flat_gradients(together), added)
    assert together.num_active == 10
    for k, one in enumerate(apart):
        np.testing.assert_allclose(
            together.logprobs[0][:, k], one.logprobs[0], rtol=0, atol=LOGPROB_ATOL
        )


@pytest.mark.parametrize("targets", [SPEC.targets, ALL_TARGETS])
def test_gradients_agree_with_finite_differences(
    tiny: BaseModel, data: list[Datum], targets: tuple[str, ...]
) -> None:
    spec = make_adapter_spec(rank=2, alpha=4.0, targets=targets)
    factors = draw_factors(tiny.config, spec)
    direction = draw_factors(tiny.config, spec, seed=1)
    step = 2e-3
    ahead = run_data(tiny, spec, moved(factors, direction, step), data)
    behind = run_data(tiny, spec, moved(factors, direction, -step), data)
    slope = (ahead.loss_sum - behind.loss_sum) / (2 * step)
    gradients = flat_gradients(run_data(tiny, spec, factors, data)).astype(np.float64)
    along = np.concatenate([np.asarray(x).ravel() for _, x in iter_arrays(direction)])
    # The loss sum of 300 carries float32 errors of about 1e-4, and the step cuts off its third
    # order: together about a thousandth of this slope.
    assert slope == pytest.approx(float(gradients @ along), rel=5e-3)


def moved(factors: Factors, direction: Factors, step: float) -> Factors:
    found: Factors = {}
    toward = dict(iter_arrays(direction))
    for path, array in iter_arrays(factors):
        put_array(found, path, array + step * toward[path])
    return found


def test_the_scale_multiplies_the_update(tiny: BaseModel, data: list[Datum]) -> None:
    single, double = (AdapterSpec(rank=2, alpha=alpha) for alpha in (4.0, 8.0))
    factors = draw_factors(tiny.config, single)
    halved: Factors = {}
    for path, array in iter_arrays(factors):
        put_array(halved, path, array / 2 if path[-1] == "lora_b" else array)
    one, other = run_data(tiny, single, factors, data), run_data(tiny, double, halved, data)
    assert one.loss_sum == pytest.approx(other.loss_sum, rel=1e-6)
