"""Datums as arrays, checked: what the maths sees of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from loops_core.errors import UnsupportedError, UsageError
from loops_core.protocols import LossFunction, LossInput
from loops_core.types.datum import Datum
from loops_core.types.training import IGNORED_TARGET
from loops_mock.exact import Floats
from loops_mock.model import Tokens

TARGETS: Final = "target_tokens"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One datum: N tokens with N or [N, K] targets.

    Attributes:
        tokens: [N].
        targets: [N, K] (K = 1 for N targets); 0 where there is none.
        shape: that of the datum's targets.
        scored: [N, K], where there is a target.
        active: [N, K], where a target counts: scored, and the loss's `active_input` is not 0.
        inputs: the loss's inputs by name, [N, K]; 0 where not active.
    """

    tokens: Tokens
    targets: Tokens
    shape: tuple[int, ...]
    scored: NDArray[np.bool_]
    active: NDArray[np.bool_]
    inputs: Mapping[str, Floats]

    @property
    def num_active(self) -> int:
        """Return the number of active positions; one with K targets counts once."""
        return int(np.count_nonzero(self.active.any(axis=1)))


def make_rows(
    data: Sequence[Datum], loss: LossFunction, *, vocab_size: int, max_seq_len: int
) -> list[Row]:
    """Return the rows of `data`, in its order.

    A datum without `target_tokens` is scored on its own text: position i predicts token i + 1, and
    the last position has no target.

    Raises:
        UsageError: `data` is empty, or a datum does not fit the model, the loss or the others.
        UnsupportedError: a datum holds an image.
    """
    if not data:
        raise UsageError("data is empty; expected at least one Datum", field="data")
    if len(data) % loss.rows_per_term:
        raise UsageError(
            f"data holds {len(data)} datums; {loss.name} expected a multiple of "
            f"{loss.rows_per_term}: chosen and rejected in turn",
            field="data",
        )
    rows: list[Row] = []
    for number, datum in enumerate(data):
        where = f"data[{number}]"
        tokens = _read_tokens(datum, where, vocab_size=vocab_size, max_seq_len=max_seq_len)
        rows.append(_make_row(datum, tokens, loss, where, vocab_size=vocab_size))
        first = rows[0].shape
        if rows[-1].shape[1:] != first[1:]:
            field = f"{where}.loss_fn_inputs[{TARGETS!r}]"
            raise _wrong(
                field, f"has shape {rows[-1].shape}", f"that of data[0], {first}, but for N"
            )
    return rows


def _read_tokens(datum: Datum, where: str, *, vocab_size: int, max_seq_len: int) -> Tokens:
    field = f"{where}.model_input"
    try:
        tokens = np.asarray(datum.model_input.to_ints(), dtype=np.int64)
    except TypeError as error:
        message = f"{field} holds an image; expected text only; the mock backend reads no images"
        raise UnsupportedError(message, field=field) from error
    if not 1 <= len(tokens) <= max_seq_len:
        raise _wrong(field, f"has {len(tokens)} tokens", f"1 to {max_seq_len}")
    _check_ids(tokens, field, vocab_size)
    return tokens


def _make_row(
    datum: Datum, tokens: Tokens, loss: LossFunction, where: str, *, vocab_size: int
) -> Row:
    field = f"{where}.loss_fn_inputs[{TARGETS!r}]"
    given = datum.loss_fn_inputs.get(TARGETS)
    targets = np.append(tokens[1:], IGNORED_TARGET) if given is None else given.to_numpy()
    if targets.dtype.kind not in "iu":
        raise _wrong(field, f"has dtype {targets.dtype}", "int64")
    dims = (1, 2) if loss.multiple_targets else (1,)
    if targets.ndim not in dims or len(targets) != len(tokens) or not targets.size:
        forms = " or ".join(("(N,)", "(N, K)")[: len(dims)])
        raise _wrong(field, f"has shape {targets.shape}", f"{forms} with N = {len(tokens)}")
    flat = targets.astype(np.int64).reshape(len(tokens), -1)
    scored = flat != IGNORED_TARGET
    _check_ids(flat[scored], field, vocab_size)
    raw = {
        spec.name: _read_input(datum, spec, targets.shape, where)
        for spec in loss.inputs
        if spec.required or spec.name in datum.loss_fn_inputs
    }
    active = scored & (raw[loss.active_input] != 0) if loss.active_input in raw else scored
    inputs = {name: np.where(active, values, 0.0) for name, values in raw.items()}
    for name, values in inputs.items():
        beyond = values[~(np.abs(values) <= np.finfo(np.float32).max)]
        if beyond.size:
            field = f"{where}.loss_fn_inputs[{name!r}]"
            raise _wrong(field, f"holds {beyond[0]}", "finite numbers that float32 holds")
    return Row(
        tokens=tokens,
        targets=np.where(scored, flat, 0),
        shape=targets.shape,
        scored=scored,
        active=active,
        inputs=inputs,
    )


def _read_input(datum: Datum, spec: LossInput, shape: tuple[int, ...], where: str) -> Floats:
    """Return an input in the shape [N, K], float64."""
    if spec.name not in datum.loss_fn_inputs:
        raise _wrong(f"{where}.loss_fn_inputs", f"lacks {spec.name!r}", "it for this loss")
    tensor, field = datum.loss_fn_inputs[spec.name], f"{where}.loss_fn_inputs[{spec.name!r}]"
    values = tensor.to_numpy()
    is_int, is_bool = values.dtype.kind in "iu", values.dtype.kind == "b"
    if is_bool or (spec.dtype == "int" and not is_int):
        raise _wrong(
            field, f"has dtype {tensor.dtype}", "int64" if spec.dtype == "int" else "float32"
        )
    allowed = [shape] if spec.shape == "targets" else [shape[:1]]
    if spec.shape == "positions_or_scalar":
        allowed.append((1,))
    if values.shape not in allowed:
        raise _wrong(field, f"has shape {values.shape}", " or ".join(map(str, allowed)))
    columns = values.astype(np.float64).reshape(len(values), -1)
    return np.broadcast_to(columns, (shape[0], shape[1] if len(shape) == 2 else 1))


def _check_ids(ids: Tokens, field: str, vocab_size: int) -> None:
    outside = ids[(ids < 0) | (ids >= vocab_size)]
    if outside.size:
        raise _wrong(field, f"holds {outside[0]}", f"token ids from 0 to {vocab_size - 1}")


def _wrong(field: str, problem: str, expected: str) -> UsageError:
    return UsageError(f"{field} {problem}; expected {expected}", field=field)
