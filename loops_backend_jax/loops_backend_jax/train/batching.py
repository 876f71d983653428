"""Ragged datums into padded batches of a few shapes, and per-token results back.

Each compiled shape costs a compilation, so row lengths are rounded up to a short list, and numbers
of rows to powers of two. Rows of similar length that bring the same inputs share a batch; a batch
holds a bounded number of tokens. Padding is segment 0 and counts nowhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from loops_core.protocols.rows import Row

SHORTEST_ROW = 16
FINE_FROM = 256


class Batch(NamedTuple):
    """One padded batch, as compiled passes take it; every array starts with [rows, length].

    Attributes:
        tokens: int32; 0 where padded.
        positions: int32, from 0 in each sequence; 0 where padded.
        segment_ids: int32; 1 for the row's sequence, 0 where padded.
        targets: int32, [rows, length] or [rows, length, K]; 0 where not scored.
        scored: whether there is a target at all; False where padded.
        active: whether it counts and passes a gradient.
        inputs: the loss's inputs by name, float32, in the shape of `targets`; 0 where not active.
    """

    tokens: Int[Array, "rows length"]
    positions: Int[Array, "rows length"]
    segment_ids: Int[Array, "rows length"]
    targets: Int[Array, "rows length *k"]
    scored: Bool[Array, "rows length *k"]
    active: Bool[Array, "rows length *k"]
    inputs: Mapping[str, Float[Array, "rows length *k"]]


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which rows a batch holds: `order[i]` is the number of the row in batch row i."""

    batch: Batch
    order: tuple[int, ...]


def make_batches(
    rows: Sequence[Row], *, max_batch_tokens: int, rows_per_term: int = 1
) -> tuple[Placement, ...]:
    """Return batches that together hold every row once, in an order that depends on lengths only.

    Args:
        rows: at least one, all with the same K; a multiple of `rows_per_term`.
        max_batch_tokens: bound of rows x length, padding included; a longer term goes alone.
        rows_per_term: how many neighbouring rows stay neighbours in one batch.
    """
    alike: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for first in range(0, len(rows), rows_per_term):
        term = rows[first : first + rows_per_term]
        names = sorted({name for row in term for name in row.inputs})
        longest = max(len(row.tokens) for row in term)
        alike.setdefault((row_length_for(longest), tuple(names)), []).append(first)
    placements: list[Placement] = []
    for (length, names), firsts in sorted(alike.items()):
        largest = _power_of_two_below(max(1, max_batch_tokens // (length * rows_per_term)))
        start = 0
        while start < len(firsts):
            num_terms = _num_rows_for(min(len(firsts) - start, largest))
            taken = firsts[start : start + num_terms]
            order = tuple(first + n for first in taken for n in range(rows_per_term))
            batch = _fill([rows[i] for i in order], num_terms * rows_per_term, length, names)
            placements.append(Placement(batch=batch, order=order))
            start += num_terms
    return tuple(placements)


def row_length_for(num_tokens: int) -> int:
    """Return the padded length of a row: a power of two; from 256 on also one and a half of one."""
    length = max(SHORTEST_ROW, _power_of_two_below(max(1, num_tokens)))
    if length >= num_tokens:
        return length
    if length >= FINE_FROM and length * 3 // 2 >= num_tokens:
        return length * 3 // 2
    return length * 2


def gather_rows(
    placements: Sequence[Placement], values: Sequence[np.ndarray], rows: Sequence[Row]
) -> list[np.ndarray]:
    """Return each row's own values, in the order of `rows`, without padding.

    Args:
        placements: what `make_batches` returned.
        values: one array [rows, length, ...] for each placement.
        rows: the rows that went in.
    """
    found: dict[int, np.ndarray] = {}
    for placement, array in zip(placements, values, strict=True):
        for at, number in enumerate(placement.order):
            found[number] = array[at, : len(rows[number].tokens)]
    return [found[number] for number in range(len(rows))]


def _num_rows_for(count: int) -> int:
    """Return how many rows the next batch has: rounded up where that adds at most a third."""
    below = _power_of_two_below(count)
    above = below if below == count else 2 * below
    return above if 4 * (above - count) <= above else below


def _power_of_two_below(number: int) -> int:
    return 1 << (number.bit_length() - 1)


def _fill(rows: Sequence[Row], num_rows: int, length: int, names: Sequence[str]) -> Batch:
    def padded(arrays: Sequence[np.ndarray], dtype: type[np.generic]) -> Array:
        filled = np.zeros((num_rows, length, *arrays[0].shape[1:]), dtype)
        for at, array in enumerate(arrays):
            filled[at, : len(array)] = array
        return jnp.asarray(filled)

    return Batch(
        tokens=padded([row.tokens for row in rows], np.int32),
        positions=padded([np.arange(len(row.tokens)) for row in rows], np.int32),
        segment_ids=padded([np.ones_like(row.tokens) for row in rows], np.int32),
        targets=padded([row.targets for row in rows], np.int32),
        scored=padded([row.scored for row in rows], np.bool_),
        active=padded([row.active for row in rows], np.bool_),
        inputs={name: padded([_input(row, name) for row in rows], np.float32) for name in names},
    )


def _input(row: Row, name: str) -> np.ndarray:
    """Return a row's input; 1 where it is active and lacks what others of its term bring."""
    return row.inputs.get(name, row.active)
