"""Datums as rows of arrays: what the maths sees of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
from jaxtyping import Bool, Float, Int

from loops_core.errors import UnsupportedError, UsageError
from loops_core.protocols import LossFunction, LossInput
from loops_core.types.datum import Datum
from loops_core.types.training import IGNORED_TARGET

TARGETS = "target_tokens"


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
    """Return the rows of `data`, in its order.

    A datum without `target_tokens` is scored on its own text: position i predicts token i + 1, and
    the last position has no target.

    Raises:
        UsageError: a datum that does not fit the model, its loss, or the other datums; it is named.
        UnsupportedError: a datum with an image.
    """
    rows: list[Row] = []
    for number, datum in enumerate(data):
        where = f"data[{number}]"
        rows.append(_make_row(datum, loss, where, vocab_size))
        if len(rows[-1].tokens) > max_tokens:
            problem = f"has {len(rows[-1].tokens)} tokens"
            raise _wrong(f"{where}.model_input", problem, f"at most {max_tokens}")
        shape, first = rows[-1].targets.shape, rows[0].targets.shape
        if shape[1:] != first[1:]:
            raise _wrong(
                f"{where}.loss_fn_inputs['{TARGETS}']",
                f"has shape {shape}, that of data[0] is {first}",
                "(N,), or (N, K) with one K for all data",
            )
    return tuple(rows)


def _make_row(datum: Datum, loss: LossFunction, where: str, vocab_size: int) -> Row:
    tokens = _tokens(datum, where, vocab_size)
    targets, scored = _targets(datum, tokens, loss, where, vocab_size)
    found: dict[str, np.ndarray] = {}
    for spec in loss.inputs:
        if spec.name in datum.loss_fn_inputs:
            found[spec.name] = _input(datum, spec, targets.shape, where)
        elif spec.required:
            problem = f"lacks {spec.name!r}"
            raise _wrong(f"{where}.loss_fn_inputs", problem, f"it for loss {loss.name!r}")
    gate = found.get(loss.active_input or "")
    active = scored if gate is None else scored & (gate != 0)
    inputs: dict[str, np.ndarray] = {}
    for name, values in found.items():
        kept = np.where(active, values, 0.0)
        if not np.isfinite(kept).all():
            problem = f"holds {kept[~np.isfinite(kept)][0]} at an active position"
            raise _wrong(f"{where}.loss_fn_inputs[{name!r}]", problem, "finite numbers")
        inputs[name] = kept.astype(np.float32)
    return Row(tokens=tokens, targets=targets, scored=scored, active=active, inputs=inputs)


def _tokens(datum: Datum, where: str, vocab_size: int) -> np.ndarray:
    try:
        tokens = np.asarray(datum.model_input.to_ints(), dtype=np.int64)
    except TypeError as error:
        raise UnsupportedError(
            f"{where}.model_input: {error}; expected text only; this backend reads no images",
            field=f"{where}.model_input",
        ) from error
    except OverflowError as error:
        expected = f"token ids from 0 to {vocab_size - 1}"
        raise _wrong(f"{where}.model_input", "holds a number over 64 bits", expected) from error
    if not len(tokens):
        raise _wrong(f"{where}.model_input", "is empty", "at least one token")
    _check_ids(tokens, f"{where}.model_input", vocab_size)
    return tokens.astype(np.int32)


def _targets(
    datum: Datum, tokens: np.ndarray, loss: LossFunction, where: str, vocab_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return targets with 0 for ignored ones, and where there are any."""
    field = f"{where}.loss_fn_inputs['{TARGETS}']"
    if TARGETS not in datum.loss_fn_inputs:
        targets = np.append(tokens[1:], IGNORED_TARGET).astype(np.int64)
    else:
        targets = datum.loss_fn_inputs[TARGETS].to_numpy()
    if targets.dtype.kind not in "iu":
        raise _wrong(field, f"has dtype {targets.dtype}", "int64")
    dims = (1, 2) if loss.multiple_targets else (1,)
    if targets.ndim not in dims or len(targets) != len(tokens) or not targets.size:
        forms = "(N,) or (N, K)" if loss.multiple_targets else "(N,)"
        raise _wrong(field, f"has shape {targets.shape}", f"{forms} with N = {len(tokens)}")
    scored = targets != IGNORED_TARGET
    _check_ids(targets[scored], field, vocab_size)
    return np.where(scored, targets, 0).astype(np.int32), scored


def _input(datum: Datum, spec: LossInput, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Return an input broadcast to the shape of the targets, float64."""
    values = datum.loss_fn_inputs[spec.name].to_numpy()
    field = f"{where}.loss_fn_inputs[{spec.name!r}]"
    if (
        values.dtype.kind not in ("iu" if spec.dtype == "int" else "iuf")
        and values.dtype.name != "bfloat16"
    ):
        raise _wrong(field, f"has dtype {values.dtype}", spec.dtype)
    allowed = [shape] if spec.shape == "targets" else [shape[:1]]
    if spec.shape == "positions_or_scalar":
        allowed.append((1,))
    if values.shape not in allowed:
        raise _wrong(field, f"has shape {values.shape}", " or ".join(map(str, allowed)))
    if values.shape != shape and len(shape) == 2:
        values = values[:, None]
    return np.broadcast_to(values, shape).astype(np.float64)


def _check_ids(ids: np.ndarray, field: str, vocab_size: int) -> None:
    if ids.size and (ids.min() < 0 or ids.max() >= vocab_size):
        worst = ids.min() if ids.min() < 0 else ids.max()
        raise _wrong(field, f"holds {worst}", f"token ids from 0 to {vocab_size - 1}")


def _wrong(field: str, problem: str, expected: str) -> UsageError:
    return UsageError(f"{field} {problem}; expected {expected}", field=field)
