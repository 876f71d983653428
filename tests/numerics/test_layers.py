"""Attention, rotation, caches and segments against numpy and against each other."""

from __future__ import annotations

import numpy as np
import pytest
from tests.numerics.cases import GOLDEN, final_logits, to_jax, token_arrays

from loops_backend_jax.config import BackendSettings, RopeConfig
from loops_backend_jax.models.decoder import apply_decoder, make_cache, unembedding
from loops_backend_jax.models.layers import attend, rope_frequencies, rotate, rotation
from loops_backend_jax.weights.load import BaseModel, load_base_model

TOKENS = np.random.default_rng(0).integers(3, 320, (2, 12))
# float32 sums in another order, of logits up to 30
LOGIT_ATOL = 1e-4


def numpy_attention(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Return attention one head at a time, in float64."""
    groups = query.shape[2] // key.shape[2]
    heads: list[np.ndarray] = []
    for head in range(query.shape[2]):
        q, k, v = query[:, :, head], key[:, :, head // groups], value[:, :, head // groups]
        scores = np.einsum("BTH,BSH->BTS", q, k).astype(np.float64) / np.sqrt(q.shape[-1])
        weights = np.where(mask, np.exp(scores), 0.0)
        heads.append(np.einsum("BTS,BSH->BTH", weights / weights.sum(-1, keepdims=True), v))
    return np.concatenate(heads, axis=-1)


def test_attention_is_softmax_of_scaled_products_for_every_head() -> None:
    g = np.random.default_rng(0)
    query = g.standard_normal((2, 5, 6, 4)).astype(np.float32)
    key, value = g.standard_normal((2, 2, 7, 3, 4)).astype(np.float32)
    mask = g.uniform(size=(2, 5, 7)) < 0.6
    mask[..., 0] = True
    found = attend(to_jax(query), to_jax(key), to_jax(value), to_jax(mask, np.bool_))
    expected = numpy_attention(query, key, value, mask)
    # float32 against float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_rotation_keeps_lengths_and_depends_on_distance_only() -> None:
    g = np.random.default_rng(1)
    x, y = (to_jax(g.standard_normal((1, 1, 1, 8))) for _ in range(2))
    rope = RopeConfig(theta=100.0)

    def turned_product(at_x: int, at_y: int) -> float:
        angles = [rotation(rope, 8, to_jax(np.array([[at]]), np.int32)) for at in (at_x, at_y)]
        turned = [np.asarray(rotate(z, *angle)) for z, angle in zip((x, y), angles, strict=True)]
        assert np.linalg.norm(turned[0]) == pytest.approx(float(np.linalg.norm(x)), rel=1e-6)
        return float(np.sum(turned[0] * turned[1]))

    # float32 angles up to 43 radians
    assert turned_product(3, 10) == pytest.approx(turned_product(36, 43), abs=1e-4)
    assert turned_product(3, 10) != pytest.approx(turned_product(3, 11), abs=1e-2)


def test_linear_scaling_stretches_every_wave() -> None:
    plain = rope_frequencies(RopeConfig(theta=500.0), 8)
    scaled = rope_frequencies(RopeConfig(kind="linear", theta=500.0, factor=4.0), 8)
    np.testing.assert_allclose(scaled, plain / 4, rtol=1e-6)


def test_llama3_scaling_stretches_long_waves_only() -> None:
    rope = RopeConfig(kind="llama3", theta=5e5, factor=8.0, original_max_positions=64)
    plain, scaled = rope_frequencies(RopeConfig(theta=5e5), 64), rope_frequencies(rope, 64)
    waves = 2 * np.pi / plain
    np.testing.assert_array_equal(scaled[waves < 64 / 4], plain[waves < 64 / 4])
    np.testing.assert_allclose(scaled[waves > 64], plain[waves > 64] / 8, rtol=1e-6)
    between = (waves > 16) & (waves < 64)
    assert between.any()
    assert ((scaled < plain) & (scaled > plain / 8))[between].all()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3", "llama3"])
def test_reading_with_a_cache_equals_reading_at_once(family: str) -> None:
    base = load_base_model(GOLDEN / family, BackendSettings())
    table = np.asarray(unembedding(base.params))
    whole = final_logits(base, TOKENS, None, scale=0.0)
    cache = make_cache(base.config, 2, 16, base.model.dtype)
    tokens, positions, segments = (np.asarray(array) for array in token_arrays(TOKENS))
    for start, stop in ((0, 7), (7, 8), (8, 12)):
        piece = [to_jax(array[:, start:stop], np.int32) for array in (tokens, positions, segments)]
        hidden, cache = apply_decoder(base.model, base.params, None, *piece, cache=cache)
        logits = np.asarray(hidden) @ table.T
        np.testing.assert_allclose(logits, whole[:, start:stop], rtol=0, atol=LOGIT_ATOL)


@pytest.mark.slow
def test_padding_does_not_reach_the_cache(tiny: BaseModel) -> None:
    ids = [np.array([[3, 4, 9, 9]]), np.array([[0, 1, 0, 1]]), np.array([[1, 1, 0, 0]])]
    found: list[np.ndarray] = []
    for length in (2, 4):
        empty = make_cache(tiny.config, 1, 4, tiny.model.dtype)
        inputs = [to_jax(array[:, :length], np.int32) for array in ids]
        _, cache = apply_decoder(tiny.model, tiny.params, None, *inputs, cache=empty)
        assert cache is not None
        found.append(np.asarray(cache.keys))
    assert found[0].any(axis=(0, 3, 4)).tolist() == [[True, True, False, False]]
    # products of four rows instead of two add up in another order
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_sequences_that_share_a_row_do_not_see_each_other(tiny: BaseModel) -> None:
    packed = np.concatenate([TOKENS[0, :7], TOKENS[1, :5]])[None]
    positions = np.concatenate([np.arange(7), np.arange(5)])[None]
    segments = np.array([[1] * 7 + [2] * 5])
    inputs = [to_jax(array, np.int32) for array in (packed, positions, segments)]
    hidden, _ = apply_decoder(tiny.model, tiny.params, None, *inputs)
    logits = (np.asarray(hidden) @ np.asarray(unembedding(tiny.params)).T)[0]
    first = final_logits(tiny, TOKENS[:1, :7], None, scale=0.0)[0]
    second = final_logits(tiny, TOKENS[1:, :5], None, scale=0.0)[0]
    np.testing.assert_allclose(logits, np.concatenate([first, second]), rtol=0, atol=LOGIT_ATOL)


@pytest.mark.slow
def test_bfloat16_computes_near_float32(tiny: BaseModel) -> None:
    base = load_base_model(GOLDEN / "qwen3", BackendSettings(dtype="bfloat16"))
    narrow = final_logits(base, TOKENS, None, scale=0.0)
    wide = final_logits(tiny, TOKENS, None, scale=0.0)
    # eight bits of mantissa, through three layers
    assert np.linalg.norm(narrow - wide) < 0.05 * np.linalg.norm(wide)
    assert narrow.dtype == np.float32


@pytest.mark.slow
def test_recomputing_blocks_changes_no_output(tiny: BaseModel) -> None:
    base = load_base_model(GOLDEN / "qwen3", BackendSettings(remat=True))
    found = final_logits(base, TOKENS, None, scale=0.0)
    np.testing.assert_allclose(
        found, final_logits(tiny, TOKENS, None, scale=0.0), rtol=0, atol=LOGIT_ATOL
    )
