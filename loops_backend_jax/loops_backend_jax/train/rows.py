"""Datums as rows of arrays, in the dtypes of the maths."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
from jaxtyping import Bool, Float, Int

from loops_core.protocols import LossFunction, rows
from loops_core.types.datum import Datum


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One datum: N tokens, and N or [N, K] targets with what the loss reads for each.

    Attributes:
        tokens: int32.
        targets: int32; 0 where there is none.
        scored: where there is a target.
        active: where a target counts and passes a gradient: scored, and the loss's `active_input`,
            if the datum brings it, is not 0.
        inputs: those of the loss's inputs that the datum brings, by name, float32 in the shape of
            `targets`; 0 where not active.
    """

    tokens: Int[np.ndarray, " n"]
    targets: Int[np.ndarray, "n ..."]
    scored: Bool[np.ndarray, "n ..."]
    active: Bool[np.ndarray, "n ..."]
    inputs: Mapping[str, Float[np.ndarray, "n ..."]]

    @property
    def num_active(self) -> int:
        """Return the number of active positions; one with K targets counts once."""
        return int(np.count_nonzero(self.active.reshape(len(self.tokens), -1).any(axis=1)))


def make_rows(
    data: Sequence[Datum], loss: LossFunction, *, vocab_size: int, max_tokens: int
) -> tuple[Row, ...]:
    """Return the rows of `data`, in its order; what they promise, and raise, is in the core.

    Raises:
        UsageError: a datum that does not fit the model, its loss, or the other datums; it is named.
        UnsupportedError: a datum with an image.
    """
    found = rows.make_rows(data, loss, vocab_size=vocab_size, max_seq_len=max_tokens)
    return tuple(
        Row(
            tokens=row.tokens.astype(np.int32),
            targets=row.targets.astype(np.int32),
            scored=row.scored,
            active=row.active,
            inputs={name: values.astype(np.float32) for name, values in row.inputs.items()},
        )
        for row in found
    )
