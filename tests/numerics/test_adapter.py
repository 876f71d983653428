"""What an adapter adds: nothing when fresh, the same applied as merged."""

from __future__ import annotations

import numpy as np
import pytest
from tests.numerics.cases import GOLDEN, draw_factors, final_logits, to_jax

from loops_backend_jax.config import BackendSettings
from loops_backend_jax.lora.adapter import (
    ALL_TARGETS,
    LINEAR_TARGETS,
    init_factors,
    lora_delta,
    make_adapter_spec,
    merge_factors,
)
from loops_backend_jax.lora.tree import get_array, iter_arrays
from loops_backend_jax.weights.load import BaseModel, load_base_model

TOKENS = np.random.default_rng(0).integers(3, 320, (2, 24))


@pytest.mark.slow
def test_a_fresh_adapter_equals_the_base_bit_for_bit(tiny: BaseModel) -> None:
    spec = make_adapter_spec(rank=4, targets=ALL_TARGETS)
    fresh = init_factors(tiny.config, spec, seed=0)
    base = final_logits(tiny, TOKENS, None, scale=0.0)
    assert np.array_equal(final_logits(tiny, TOKENS, fresh, scale=spec.scale), base)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3", "llama3"])  # tied and untied embeddings
def test_a_merged_adapter_equals_an_applied_one(family: str) -> None:
    base = load_base_model(GOLDEN / family, BackendSettings())
    spec = make_adapter_spec(rank=4, alpha=8.0, targets=ALL_TARGETS)
    factors = draw_factors(base.config, spec)
    merged = merge_factors(base.params, factors, spec=spec, config=base.config)
    applied = final_logits(base, TOKENS, factors, scale=spec.scale)
    alone = final_logits(base, TOKENS, None, scale=0.0)
    assert np.abs(applied - alone).max() > 0.1
    # float32 sums in another order, through three layers, of logits up to 30
    found = final_logits(base, TOKENS, None, scale=0.0, params=merged)
    np.testing.assert_allclose(found, applied, rtol=0, atol=2e-4)


def test_merging_leaves_the_base_as_it_is(tiny: BaseModel) -> None:
    spec = make_adapter_spec(rank=4, targets=ALL_TARGETS)
    before = {path: np.asarray(array).copy() for path, array in iter_arrays(tiny.params)}
    merge_factors(tiny.params, draw_factors(tiny.config, spec), spec=spec, config=tiny.config)
    after = dict(iter_arrays(tiny.params))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[path], after[path]) for path in before)


def test_the_delta_is_scale_times_x_a_b() -> None:
    g = np.random.default_rng(1)
    x, a, b = (g.standard_normal(shape).astype("f4") for shape in ((5, 7), (7, 3), (3, 4)))
    delta = lora_delta(to_jax(x), to_jax(a), to_jax(b), scale=0.5)
    # sums of three and seven float32 terms, in another order
    np.testing.assert_allclose(delta, 0.5 * x @ a @ b, rtol=1e-5, atol=1e-6)


def test_the_scale_is_alpha_over_rank() -> None:
    assert make_adapter_spec(rank=8, alpha=16.0).scale == 2.0


def test_the_same_seed_gives_the_same_bytes_and_another_other_ones(tiny: BaseModel) -> None:
    spec = make_adapter_spec(rank=4)
    one, two, other = (
        dict(iter_arrays(init_factors(tiny.config, spec, seed=s))) for s in (5, 5, 6)
    )
    assert all(np.array_equal(one[path], two[path]) for path in one)
    assert not any(np.array_equal(one[path], other[path]) for path in one if "lora_a" in path)


def test_a_module_starts_the_same_whatever_else_is_adapted(tiny: BaseModel) -> None:
    path = ("layers", "mlp", "up_proj", "lora_a")
    few = init_factors(tiny.config, make_adapter_spec(rank=4, targets=("up_proj",)), seed=0)
    all_of_them = init_factors(tiny.config, make_adapter_spec(rank=4, targets=ALL_TARGETS), seed=0)
    assert np.array_equal(get_array(few, path), get_array(all_of_them, path))


def test_a_starts_uniform_within_one_over_the_root_of_its_width(tiny: BaseModel) -> None:
    spec = make_adapter_spec(rank=32, targets=LINEAR_TARGETS)
    factors = init_factors(tiny.config, spec, seed=0)
    a = np.asarray(get_array(factors, ("layers", "mlp", "down_proj", "lora_a")))
    bound = tiny.config.ff_width**-0.5
    assert np.abs(a).max() <= bound
    # 15,360 draws: the spread of a uniform variable is known to a few parts in a hundred
    assert a.std() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert abs(a.mean()) < 0.05 * bound


def test_the_first_values_of_seed_0_are_these(tiny: BaseModel) -> None:
    factors = init_factors(tiny.config, make_adapter_spec(rank=4), seed=0)
    a = np.asarray(get_array(factors, ("layers", "self_attn", "q_proj", "lora_a")))
    # Saved runs start from them: a change of the draw is a change for users.
    assert a[0, 0, :2].tolist() == [-0.03812624514102936, 0.0377064049243927]
