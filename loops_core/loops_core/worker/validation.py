"""Checks of an operation before it enters the log: what is wrong is said at the call.

Everything that can be known from the body and the trainer's description is checked here, so that a
refused call has changed nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final

from loops_core.errors import UnsupportedError, UsageError
from loops_core.protocols import LossFunction, TrainerDescription
from loops_core.protocols.loss_settings import complete_settings
from loops_core.protocols.rows import check_rows
from loops_core.types.datum import Datum
from loops_core.types.operation import (
    ForwardBody,
    InitTrainerServerBody,
    OperationBody,
    SaveStateBody,
    SaveWeightsForSamplerBody,
)
from loops_core.worker.checkpoints import check_name

_PROTOCOL_INPUTS: Final = frozenset(
    {"target_tokens", "weights", "logprobs", "advantages", "ref_logprobs", "mask"}
)
"""Inputs that a datum may carry whatever the loss: data is shared between losses and helpers."""


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
    loss = _known_loss(body.loss_fn, trainer)
    complete_settings(loss, body.loss_fn_config or {})
    if body.top_k_logprobs > trainer.max_top_k_logprobs:
        raise UnsupportedError(
            f"top_k_logprobs={body.top_k_logprobs} is not offered by this backend: "
            f"expected at most {trainer.max_top_k_logprobs}",
            field="top_k_logprobs",
        )
    for position, datum in enumerate(body.data):
        _check_names(f"data[{position}]", datum, trainer)
    check_rows(body.data, loss, vocab_size=trainer.vocab_size, max_seq_len=trainer.max_seq_len)


def _known_loss(loss_fn: str, trainer: TrainerDescription) -> LossFunction:
    if loss_fn not in trainer.losses:
        raise UsageError(
            f"loss_fn {loss_fn!r} is not offered: expected one of "
            + ", ".join(sorted(trainer.losses))
            + _did_you_mean(loss_fn, trainer.losses),
            field="loss_fn",
        )
    return trainer.losses[loss_fn]


def _check_names(field: str, datum: Datum, trainer: TrainerDescription) -> None:
    """Refuse what nobody reads: routing, and inputs that none of the trainer's losses knows."""
    if datum.routed_experts_ref is not None:
        raise UnsupportedError(
            f"{field}.routed_experts_ref is not offered by this backend: leave it out",
            field=f"{field}.routed_experts_ref",
        )
    for name in datum.loss_fn_inputs:
        if name not in _PROTOCOL_INPUTS:
            _check_known(field, name, trainer)


def _check_known(field: str, name: str, trainer: TrainerDescription) -> None:
    specs = (spec for offered in trainer.losses.values() for spec in offered.inputs)
    known = _PROTOCOL_INPUTS | {spec.name for spec in specs}
    if name not in known:
        raise UsageError(
            f"{field}.loss_fn_inputs has {name!r}, which no loss reads: expected "
            f"{', '.join(sorted(known))}" + _did_you_mean(name, known),
            field=f"{field}.loss_fn_inputs[{name!r}]",
        )


def _did_you_mean(name: str, known: Mapping[str, object] | frozenset[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
