"""Datums as rows of arrays: checked against a loss and a model once, for worker and backends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from loops_core.errors import UnsupportedError, UsageError
from loops_core.protocols.losses import LossInput, LossSpec
from loops_core.types.datum import Datum, EncodedTextChunk
from loops_core.types.tensor import TensorData
from loops_core.types.training import IGNORED_TARGET

TARGETS: Final = "target_tokens"

_INTEGERS: Final = ("int64", "int32", "int8", "uint8")
_FLOATS: Final = ("float32", "float64", "float16", "bfloat16")
_LARGEST: Final = float(np.finfo(np.float32).max)

Bools = NDArray[np.bool_]
Ids = NDArray[np.int64]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One datum: N tokens, and N or [N, K] targets with what the loss reads for each.

    Attributes:
        tokens: [N].
        targets: [N] or [N, K]; 0 where there is none.
        scored: where there is a target.
        active: where a target counts and passes a gradient: scored, and the loss's `active_input`,
            if the datum brings it, is not 0.
        inputs: those of the loss's inputs that the datum brings, by name, float64 in the shape of
            `targets`; 0 where not active. Float32 holds them.
    """

    tokens: Ids
    targets: Ids
    scored: Bools
    active: Bools
    inputs: Mapping[str, NDArray[np.float64]]

    @property
    def num_active(self) -> int:
        """Return the number of active positions; one with K targets counts once."""
        active = self.active if self.active.ndim == 1 else self.active.any(axis=1)
        return int(np.count_nonzero(active))


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a datum brings, read and checked.

    Attributes:
        ids: its tokens.
        targets: [N] or [N, K], -100 where there is none; None = each predicts the next token.
        scored, active: as a row has them; None where nothing had to know them yet.
        inputs: as a row has them.
    """

    ids: list[int]
    targets: Ids | None
    scored: Bools | None
    active: Bools | None
    inputs: dict[str, NDArray[np.float64]]


def make_rows(
    data: Sequence[Datum], loss: LossSpec, *, vocab_size: int, max_seq_len: int
) -> list[Row]:
    """Return the rows of `data`, in its order.

    A datum without `target_tokens` is scored on its own text: position i predicts token i + 1, and
    the last position has no target. Inputs that the loss does not read are left alone, and so is
    whatever stands at a position that is not active.

    Raises:
        UsageError: data that does not fit the model, the loss or each other; the message names the
            datum and the field.
        UnsupportedError: a datum with an image.
    """
    return [_to_row(parts) for parts in _read(data, loss, vocab_size, max_seq_len)]


def check_rows(data: Sequence[Datum], loss: LossSpec, *, vocab_size: int, max_seq_len: int) -> None:
    """Raise what `make_rows` raises; makes no row, which takes less time."""
    _read(data, loss, vocab_size, max_seq_len)


def _read(data: Sequence[Datum], loss: LossSpec, vocab_size: int, max_seq_len: int) -> list[_Parts]:
    if not data:
        raise UsageError("data is empty: expected at least one datum", field="data")
    if len(data) % loss.rows_per_term:
        raise UsageError(
            f"data holds {len(data)} datums: {loss.name} expects a multiple of "
            f"{loss.rows_per_term}, rows that belong together in turn (for a pair: chosen, "
            "rejected)",
            field="data",
        )
    found = [
        _read_datum(f"data[{number}]", datum, loss, vocab_size, max_seq_len)
        for number, datum in enumerate(data)
    ]
    widths = {() if each.targets is None else each.targets.shape[1:] for each in found}
    if len(widths) > 1:
        raise UsageError(
            "data mixes target_tokens of shape (N,) and (N, K), or different K: expected one "
            f"form, found {sorted(widths)} behind N",
            field="data",
        )
    return found


def _read_datum(
    where: str, datum: Datum, loss: LossSpec, vocab_size: int, max_seq_len: int
) -> _Parts:
    ids = _read_tokens(where, datum, vocab_size, max_seq_len)
    given = datum.loss_fn_inputs.get(TARGETS)
    targets = None if given is None else _read_targets(where, given, len(ids), loss, vocab_size)
    shape = (len(ids),) if targets is None else targets.shape
    found = {
        spec.name: _read_input(where, datum, spec, shape)
        for spec in loss.inputs
        if spec.required or spec.name in datum.loss_fn_inputs
    }
    if not found:
        return _Parts(ids, targets, None, None, found)
    scored = _find_scored(ids, targets)
    gate = found.get(loss.active_input or "")
    active = scored if gate is None else scored & (gate != 0.0)
    inputs = {name: np.where(active, values, 0.0) for name, values in found.items()}
    for name, values in inputs.items():
        if not float(np.abs(values).max()) <= _LARGEST:
            raise _not_finite(f"{where}.loss_fn_inputs[{name!r}]", values)
    return _Parts(ids, targets, scored, active, inputs)


def _find_scored(ids: list[int], targets: Ids | None) -> Bools:
    """Return where there is a target: without any of its own, everywhere but at the end."""
    return np.arange(len(ids)) < len(ids) - 1 if targets is None else targets != IGNORED_TARGET


def _to_row(parts: _Parts) -> Row:
    tokens = np.array(parts.ids, dtype=np.int64)
    targets = parts.targets
    scored = _find_scored(parts.ids, targets) if parts.scored is None else parts.scored
    if targets is None:
        targets = np.append(tokens[1:], 0)
    return Row(
        tokens=tokens,
        targets=np.where(scored, targets, 0),
        scored=scored,
        active=scored if parts.active is None else parts.active,
        inputs=parts.inputs,
    )


def _read_tokens(where: str, datum: Datum, vocab_size: int, max_seq_len: int) -> list[int]:
    ids: list[int] = []
    for position, chunk in enumerate(datum.model_input.chunks):
        field = f"{where}.model_input.chunks[{position}]"
        if not isinstance(chunk, EncodedTextChunk):
            raise UnsupportedError(
                f"{field}: {chunk.type} is not read by this backend; expected text only",
                field=field,
            )
        tokens = chunk.tokens
        if tokens and not (min(tokens) >= 0 and max(tokens) < vocab_size):
            raise _wrong_id(f"{field}.tokens", np.array(tokens, dtype=object), vocab_size)
        ids += tokens
    if not 1 <= len(ids) <= max_seq_len:
        raise UsageError(
            f"{where}.model_input has {len(ids)} positions: expected 1 to {max_seq_len}",
            field=f"{where}.model_input",
        )
    return ids


def _read_targets(
    where: str, given: TensorData, length: int, loss: LossSpec, vocab_size: int
) -> Ids:
    field = f"{where}.loss_fn_inputs['{TARGETS}']"
    if given.dtype not in _INTEGERS:
        raise UsageError(f"{field} is {given.dtype}: expected int64", field=field)
    shape = tuple(given.shape)
    many = loss.multiple_targets and len(shape) == 2 and shape[1] >= 1
    if shape[:1] != (length,) or not (len(shape) == 1 or many):
        expected = f"({length},) or ({length}, K)" if loss.multiple_targets else f"({length},)"
        raise UsageError(
            f"{field} has shape {shape}: expected {expected}, one row for each position of "
            "model_input",
            field=field,
        )
    targets = given.to_numpy().astype(np.int64, copy=False)
    if int(targets.view(np.uint64).max()) >= vocab_size:  # as unsigned, a negative id is large
        ids = np.where(targets == IGNORED_TARGET, 0, targets)
        if int(ids.view(np.uint64).max()) >= vocab_size:
            raise _wrong_id(field, ids, vocab_size)
    return targets


def _read_input(
    where: str, datum: Datum, spec: LossInput, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return an input in the shape of the targets."""
    field = f"{where}.loss_fn_inputs[{spec.name!r}]"
    tensor = datum.loss_fn_inputs.get(spec.name)
    if tensor is None:
        raise UsageError(f"{field} is missing: expected it for this loss", field=field)
    kinds = _INTEGERS if spec.dtype == "int" else (*_FLOATS, *_INTEGERS)
    if tensor.dtype not in kinds:
        raise UsageError(
            f"{field} is {tensor.dtype}: expected one of {', '.join(kinds)}", field=field
        )
    allowed = [shape if spec.shape == "targets" else shape[:1]]
    if spec.shape == "positions_or_scalar":
        allowed.append((1,))
    if tuple(tensor.shape) not in allowed:
        raise UsageError(
            f"{field} has shape {tuple(tensor.shape)}: expected {' or '.join(map(str, allowed))}",
            field=field,
        )
    values = tensor.to_numpy().astype(np.float64)
    if values.shape == shape:
        return values
    return np.broadcast_to(values if len(shape) == 1 else values[:, None], shape)


def _wrong_id(field: str, ids: NDArray[Any], vocab_size: int) -> UsageError:
    """Return the error that names the first id which is none."""
    position = int(np.flatnonzero((ids < 0) | (ids >= vocab_size))[0])
    return UsageError(
        f"{field}[{position}] is {ids.ravel()[position]}: expected a token id from 0 to "
        f"{vocab_size - 1}",
        field=field,
    )


def _not_finite(field: str, values: NDArray[np.float64]) -> UsageError:
    position = int(np.flatnonzero(~(np.abs(values) <= _LARGEST))[0])
    return UsageError(
        f"{field}[{position}] is {values.ravel()[position]}: expected a finite number that "
        "float32 holds at every active position",
        field=field,
    )
