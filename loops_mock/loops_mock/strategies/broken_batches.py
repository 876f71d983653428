"""Batches with one datum broken, each in one named way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from loops_core.types.datum import Datum, ModelInput
from loops_core.types.tensor import TensorData
from loops_mock.strategies.defects import Defect

TARGETS: Final = "target_tokens"

_BEYOND: Final = 2**31 - 1
"""A token id that no model has."""


def break_batch(batch: Sequence[Datum], position: int) -> list[Defect[list[Datum]]]:
    """Return the batch broken in every way that this page knows, at one datum.

    Args:
        batch: a valid batch.
        position: which datum is broken.
    """
    where = f"data[{position}]"
    tokens = f"{where}.model_input.chunks[0].tokens"
    targets = f"{where}.loss_fn_inputs[{TARGETS!r}]"
    datum = batch[position]
    ids = datum.model_input.to_ints()
    known = datum.loss_fn_inputs[TARGETS].to_numpy()
    floats = known.astype(np.float32)
    broken = [
        ("a token beyond the vocabulary", tokens, _with_tokens(datum, [*ids[:-1], _BEYOND])),
        ("a negative token", tokens, _with_tokens(datum, [*ids[:-1], -1])),
        ("no positions", f"{where}.model_input", _with_tokens(datum, [])),
        ("a target beyond the vocabulary", targets, _with_target(datum, _BEYOND)),
        ("a negative target that is not -100", targets, _with_target(datum, -7)),
        ("one target too many", targets, _with_input(datum, TARGETS, np.append(known, known[:1]))),
        ("targets that are floats", targets, _with_input(datum, TARGETS, floats)),
        ("an input that no loss reads", *_unknown(where, datum, floats)),
    ]
    found = [
        Defect(name, field, [*batch[:position], bad, *batch[position + 1 :]])
        for name, field, bad in broken
    ]
    found += _with_other_input(batch, position)
    return [*found, Defect("no data", "data", [])]


def _unknown(where: str, datum: Datum, values: np.ndarray) -> tuple[str, Datum]:
    name = "no_such_input"
    return f"{where}.loss_fn_inputs[{name!r}]", _with_input(datum, name, values)


def _with_other_input(batch: Sequence[Datum], position: int) -> list[Defect[list[Datum]]]:
    """Break the first input beside the targets: `weights`, where there is none."""
    datum = batch[position]
    name = next((key for key in datum.loss_fn_inputs if key != TARGETS), "weights")
    field = f"data[{position}].loss_fn_inputs[{name!r}]"
    num = len(datum.model_input.to_ints())
    long, nan = np.ones(num + 2, np.float32), np.full(num, np.nan, np.float32)
    return [
        Defect(what, field, [*batch[:position], bad, *batch[position + 1 :]])
        for what, bad in (
            (f"{name} of another length", _with_input(datum, name, long)),
            (f"{name} that is not finite", _with_input(datum, name, nan)),
        )
    ]


def _with_tokens(datum: Datum, tokens: list[int]) -> Datum:
    return datum.model_copy(update={"model_input": ModelInput.from_ints(tokens)})


def _with_target(datum: Datum, target: int) -> Datum:
    targets = datum.loss_fn_inputs[TARGETS].to_numpy().copy()
    targets[-1] = target
    return _with_input(datum, TARGETS, targets)


def _with_input(datum: Datum, name: str, values: np.ndarray) -> Datum:
    inputs = {**datum.loss_fn_inputs, name: TensorData.from_numpy(values)}
    return datum.model_copy(update={"loss_fn_inputs": inputs})
