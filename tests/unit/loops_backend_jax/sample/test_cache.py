"""Caches come in few sizes, grow without losing anything, and are shared by copying rows."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false
# JAX types its functions in part.
from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_backend_jax.models.layers import KeyValues
from loops_backend_jax.sample.cache import (
    ceil_power_of_two,
    grow_cache,
    max_programs,
    piece_for,
    repeat_cache,
    rows_for,
    slots_for,
)


@given(context=st.integers(2, 40_000), data=st.data())
def test_slots_hold_the_tokens_and_stay_within_the_context(
    context: int, data: st.DataObject
) -> None:
    num_tokens = data.draw(st.integers(1, context))
    slots = slots_for(num_tokens, context)
    assert num_tokens <= slots <= context
    assert slots < max(65, 2 * num_tokens) or slots == 64


@given(st.integers(1, 10_000))
def test_a_piece_holds_its_tokens_unless_they_are_too_many(num_tokens: int) -> None:
    piece = piece_for(num_tokens, 512)
    assert piece in {32, 64, 128, 256, 512}
    assert num_tokens <= piece or piece == 512


@pytest.mark.parametrize(("max_piece", "piece"), [(1, 32), (100, 64), (1024, 1024)])
def test_the_longest_piece_is_a_power_of_two_from_32(max_piece: int, piece: int) -> None:
    assert piece_for(10_000, max_piece) == piece


@given(st.integers(1, 10**6))
def test_ceil_power_of_two_is_the_next_one(number: int) -> None:
    power = ceil_power_of_two(number)
    assert power.bit_count() == 1
    assert power // 2 < number <= power


@pytest.mark.parametrize(
    ("num_samples", "row_bytes", "rows"),
    [(1, 10, 1), (3, 10, 4), (16, 10, 16), (100, 10, 16), (16, 200, 4), (16, 5000, 1)],
)
def test_rows_are_bounded_by_samples_setting_and_memory(
    num_samples: int, row_bytes: int, rows: int
) -> None:
    assert rows_for(num_samples, row_bytes, max_rows=16, max_cache_bytes=1000) == rows


def test_rows_stay_a_power_of_two_under_an_odd_setting() -> None:
    assert rows_for(16, 1, max_rows=12, max_cache_bytes=1000) == 8


def test_the_bound_of_programs_counts_every_pair_of_sizes() -> None:
    # slots 64, 128, 256, 512; pieces 32 to 512: 5; rows 1, 2, 4, 8, 16: 5
    assert max_programs(512, max_rows=16, max_piece=512) == 4 * (5 + 5)


def cache_of(rows: int, slots: int) -> KeyValues:
    numbers = np.random.default_rng(0).normal(size=(2, 3, rows, slots, 2, 4)).astype(np.float32)
    return KeyValues(jnp.asarray(numbers[0]), jnp.asarray(numbers[1]))


def test_growing_keeps_what_was_written() -> None:
    before = cache_of(2, 64)
    kept = [np.asarray(x) for x in before]
    after = grow_cache(before, num_slots=100)
    for old, new in zip(kept, after, strict=True):
        assert new.shape == (3, 2, 100, 2, 4)
        np.testing.assert_array_equal(new[:, :, :64], old)
        assert not np.asarray(new[:, :, 64:]).any()


def test_repeating_gives_every_row_the_prompt() -> None:
    one = cache_of(1, 8)
    many = repeat_cache(one, num_rows=4)
    for old, new in zip(one, many, strict=True):
        np.testing.assert_array_equal(new, np.repeat(old, 4, axis=1))
