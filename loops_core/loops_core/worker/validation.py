"""Checks of an operation before it enters the log: what is wrong is said at the call.

Everything that can be known from the body and the trainer's description is checked here, so that a
refused call has changed nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from loops_core.errors import UnsupportedError, UsageError
from loops_core.protocols import LossFunction, LossInput, TrainerDescription
from loops_core.protocols.loss_settings import complete_settings
from loops_core.types.datum import Datum, EncodedTextChunk
from loops_core.types.operation import (
    ForwardBody,
    InitTrainerServerBody,
    OperationBody,
    SaveStateBody,
    SaveWeightsForSamplerBody,
)
from loops_core.types.tensor import TensorData
from loops_core.types.training import IGNORED_TARGET
from loops_core.worker.checkpoints import check_name

_PROTOCOL_INPUTS: Final = frozenset(
    {"target_tokens", "weights", "logprobs", "advantages", "ref_logprobs", "mask"}
)
"""Inputs that a datum may carry whatever the loss: data is shared between losses and helpers."""

_INTEGERS: Final = ("int64", "int32", "int8", "uint8")
_FLOATS: Final = ("float32", "float64", "float16", "bfloat16")


def check_operation(body: OperationBody, trainer: TrainerDescription) -> None:
    """Raise `UsageError` for a body that this trainer cannot execute."""
    if isinstance(body, ForwardBody):
        check_forward(body, trainer)
    elif isinstance(body, InitTrainerServerBody):
        check_rank(body.lora_rank, trainer)
    elif isinstance(body, SaveStateBody | SaveWeightsForSamplerBody):
        check_name(body.name)


def check_rank(lora_rank: int, trainer: TrainerDescription) -> None:
    """Raise `UsageError` unless the trainer can hold an adapter of this rank."""
    if not 1 <= lora_rank <= trainer.max_lora_rank:
        raise UsageError(
            f"lora_rank must be from 1 to {trainer.max_lora_rank}, not {lora_rank}",
            field="lora_rank",
        )


def check_forward(body: ForwardBody, trainer: TrainerDescription) -> None:
    """Raise `UsageError` for data, loss or settings that the trainer does not take."""
    if not body.data:
        raise UsageError("data is empty: expected at least one datum", field="data")
    loss = _known_loss(body.loss_fn, trainer)
    complete_settings(loss, body.loss_fn_config or {})
    _check_groups(body.data, loss)
    if body.top_k_logprobs > trainer.max_top_k_logprobs:
        raise UnsupportedError(
            f"top_k_logprobs={body.top_k_logprobs} is not offered by this backend: "
            f"expected at most {trainer.max_top_k_logprobs}",
            field="top_k_logprobs",
        )
    shapes = [
        _check_datum(f"data[{position}]", datum, loss, trainer)
        for position, datum in enumerate(body.data)
    ]
    if len({shape[1:] for shape in shapes}) > 1:
        raise UsageError(
            "data mixes target_tokens of shape (N,) and (N, K), or different K: "
            f"found {sorted({shape[1:] for shape in shapes})} behind N",
            field="data",
        )


def _known_loss(loss_fn: str, trainer: TrainerDescription) -> LossFunction:
    if loss_fn not in trainer.losses:
        raise UsageError(
            f"loss_fn {loss_fn!r} is not offered: expected one of "
            + ", ".join(sorted(trainer.losses))
            + _did_you_mean(loss_fn, trainer.losses),
            field="loss_fn",
        )
    return trainer.losses[loss_fn]


def _check_groups(data: Sequence[Datum], loss: LossFunction) -> None:
    if len(data) % loss.rows_per_term:
        raise UsageError(
            f"data holds {len(data)} datums: {loss.name} expects a multiple of "
            f"{loss.rows_per_term}: chosen and rejected in turn",
            field="data",
        )


def _check_datum(
    field: str,
    datum: Datum,
    loss: LossFunction,
    trainer: TrainerDescription,
) -> tuple[int, ...]:
    """Check one datum; return the shape of its targets."""
    length = _check_tokens(field, datum, trainer)
    if datum.routed_experts_ref is not None:
        raise UnsupportedError(
            f"{field}.routed_experts_ref is not offered by this backend: leave it out",
            field=f"{field}.routed_experts_ref",
        )
    for name in datum.loss_fn_inputs:
        if name not in _PROTOCOL_INPUTS:
            _check_known(field, name, trainer)
    targets = datum.loss_fn_inputs.get("target_tokens")
    shape = (length,) if targets is None else _check_targets(field, targets, length, loss, trainer)
    given = [spec for spec in loss.inputs if _is_given(field, datum, spec)]
    if given:
        ignored = None if targets is None else targets.to_numpy() == IGNORED_TARGET
        for spec in given:
            _check_input(field, datum, spec, shape, ignored)
    return shape


def _check_known(field: str, name: str, trainer: TrainerDescription) -> None:
    """Refuse an input that none of the trainer's losses reads."""
    specs = (spec for offered in trainer.losses.values() for spec in offered.inputs)
    known = _PROTOCOL_INPUTS | {spec.name for spec in specs}
    if name not in known:
        raise UsageError(
            f"{field}.loss_fn_inputs has {name!r}, which no loss reads: expected "
            f"{', '.join(sorted(known))}" + _did_you_mean(name, known),
            field=f"{field}.loss_fn_inputs[{name!r}]",
        )


def _check_tokens(field: str, datum: Datum, trainer: TrainerDescription) -> int:
    length = 0
    for position, chunk in enumerate(datum.model_input.chunks):
        where = f"{field}.model_input.chunks[{position}]"
        if not isinstance(chunk, EncodedTextChunk):
            raise UnsupportedError(
                f"{where}: {chunk.type} is not read by this backend", field=where
            )
        tokens = chunk.tokens
        if tokens and not (min(tokens) >= 0 and max(tokens) < trainer.vocab_size):
            raise _wrong_id(f"{where}.tokens", _to_ids(tokens), trainer.vocab_size)
        length += chunk.length
    if not 1 <= length <= trainer.max_seq_len:
        raise UsageError(
            f"{field}.model_input has {length} positions: expected 1 to {trainer.max_seq_len}",
            field=f"{field}.model_input",
        )
    return length


def _to_ids(tokens: list[int]) -> np.ndarray[Any, Any]:
    """Return the ids as int64, or as Python integers where one does not fit."""
    try:
        return np.asarray(tokens, dtype=np.int64)
    except OverflowError:
        return np.asarray(tokens, dtype=object)


def _wrong_id(field: str, ids: np.ndarray[Any, Any], vocab_size: int) -> UsageError:
    """Return the error that names the first id which is none."""
    position = int(np.flatnonzero((ids < 0) | (ids >= vocab_size))[0])
    return UsageError(
        f"{field}[{position}] is {ids.ravel()[position]}: expected a token id from 0 to "
        f"{vocab_size - 1}",
        field=field,
    )


def _check_targets(
    field: str,
    targets: TensorData,
    length: int,
    loss: LossFunction,
    trainer: TrainerDescription,
) -> tuple[int, ...]:
    where = f"{field}.loss_fn_inputs['target_tokens']"
    if targets.dtype not in _INTEGERS:
        raise UsageError(f"{where} must be int64, not {targets.dtype}", field=where)
    shape = tuple(targets.shape)
    many = loss.multiple_targets and len(shape) == 2 and shape[1] >= 1
    if shape[:1] != (length,) or not (len(shape) == 1 or many):
        expected = f"({length},) or ({length}, K)" if loss.multiple_targets else f"({length},)"
        raise UsageError(
            f"{where} has shape {shape}: expected {expected}, one row for each position of "
            "model_input",
            field=where,
        )
    ids = targets.data
    low = ids.min()
    if low < 0:
        ids = np.where(ids == IGNORED_TARGET, 0, ids)
        low = ids.min()
    if low < 0 or ids.max() >= trainer.vocab_size:
        raise _wrong_id(where, ids, trainer.vocab_size)
    return shape


def _is_given(field: str, datum: Datum, spec: LossInput) -> bool:
    if spec.name in datum.loss_fn_inputs:
        return True
    if spec.required:
        where = f"{field}.loss_fn_inputs[{spec.name!r}]"
        raise UsageError(f"{where} is missing", field=where)
    return False


def _check_input(
    field: str,
    datum: Datum,
    spec: LossInput,
    shape: tuple[int, ...],
    ignored: np.ndarray[Any, Any] | None,
) -> None:
    where = f"{field}.loss_fn_inputs[{spec.name!r}]"
    tensor = datum.loss_fn_inputs[spec.name]
    kinds = _INTEGERS if spec.dtype == "int" else (*_FLOATS, *_INTEGERS)
    if tensor.dtype not in kinds:
        raise UsageError(
            f"{where} must be one of {', '.join(kinds)}, not {tensor.dtype}", field=where
        )
    allowed = _allowed_shapes(spec, shape)
    if tuple(tensor.shape) not in allowed:
        raise UsageError(
            f"{where} has shape {tuple(tensor.shape)}: expected {' or '.join(map(str, allowed))}",
            field=where,
        )
    values = tensor.to_numpy().astype(np.float64)
    if ignored is not None and values.shape == ignored.shape:
        values = np.where(ignored, 0.0, values)
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        position = int(wrong[0])
        raise UsageError(
            f"{where}[{position}] is {values.ravel()[position]}: expected a finite number at every "
            f"position whose target is not {IGNORED_TARGET}",
            field=where,
        )


def _allowed_shapes(spec: LossInput, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    if spec.shape == "targets":
        return [shape]
    if spec.shape == "positions":
        return [shape[:1]]
    return [shape[:1], (1,)]


def _did_you_mean(name: str, known: Mapping[str, object] | frozenset[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
