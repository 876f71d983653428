"""Rows in a few shapes: every row once, padded with nothing that counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_backend_jax.train.batching import gather_rows, make_batches, row_length_for
from loops_core.protocols.rows import Row


def make_row(length: int, *names: str) -> Row:
    tokens = np.arange(1, length + 1)
    active = np.ones(length, np.bool_)
    inputs = {name: np.full(length, 2.0) for name in names}
    return Row(tokens=tokens, targets=tokens, scored=active, active=active, inputs=inputs)


@given(
    lengths=st.lists(st.integers(1, 700), min_size=1, max_size=12),
    max_batch_tokens=st.sampled_from([1, 64, 2048]),
)
def test_every_row_comes_back_in_order(lengths: list[int], max_batch_tokens: int) -> None:
    rows = [make_row(length) for length in lengths]
    placements = make_batches(rows, max_batch_tokens=max_batch_tokens)
    values = [np.asarray(placement.batch.tokens) for placement in placements]
    for row, found in zip(rows, gather_rows(placements, values, rows), strict=True):
        assert np.array_equal(found, row.tokens)
    assert sorted(i for placement in placements for i in placement.order) == [*range(len(rows))]


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=12),
    max_batch_tokens=st.sampled_from([64, 500, 2048]),
)
def test_batches_stay_under_the_bound_and_in_few_shapes(
    lengths: list[int], max_batch_tokens: int
) -> None:
    placements = make_batches([make_row(n) for n in lengths], max_batch_tokens=max_batch_tokens)
    for placement in placements:
        rows, length = placement.batch.tokens.shape
        assert rows & (rows - 1) == 0
        assert rows == 1 or rows * length <= max_batch_tokens
        assert 4 * len(placement.order) >= 3 * rows
        assert length == row_length_for(length)


def test_padding_is_segment_zero_and_counts_nowhere() -> None:
    (placement,) = make_batches([make_row(3, "weights")], max_batch_tokens=64)
    batch = placement.batch
    assert batch.tokens.shape == (1, 16)
    assert np.asarray(batch.segment_ids).tolist() == [[1] * 3 + [0] * 13]
    assert np.asarray(batch.positions).tolist() == [[0, 1, 2] + [0] * 13]
    for array in (batch.scored, batch.active, batch.inputs["weights"]):
        assert not np.asarray(array)[0, 3:].any()


def test_a_batch_is_in_the_dtypes_of_the_maths() -> None:
    (placement,) = make_batches([make_row(3, "weights")], max_batch_tokens=64)
    batch = placement.batch
    whole = (batch.tokens, batch.positions, batch.segment_ids, batch.targets)
    assert {array.dtype.name for array in whole} == {"int32"}
    assert {array.dtype.name for array in (batch.scored, batch.active)} == {"bool"}
    assert batch.inputs["weights"].dtype.name == "float32"


def test_rows_with_other_inputs_go_into_other_batches() -> None:
    rows = [make_row(5), make_row(6, "weights"), make_row(7)]
    orders = {p.order: set(p.batch.inputs) for p in make_batches(rows, max_batch_tokens=64)}
    assert orders == {(0, 2): set(), (1,): {"weights"}}


@pytest.mark.parametrize(
    ("length", "padded"),
    [(1, 16), (16, 16), (17, 32), (129, 256), (257, 384), (385, 512), (513, 768), (769, 1024)],
)
def test_lengths_are_rounded_up_to_a_short_list(length: int, padded: int) -> None:
    assert row_length_for(length) == padded
