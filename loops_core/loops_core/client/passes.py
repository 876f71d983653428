"""Forward passes: from the caller's data to submitted operations and the future of their result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from loops_core.client import chunking
from loops_core.client.arguments import check_data, check_int, check_key, check_text, usage_errors
from loops_core.client.drivers import Flow
from loops_core.client.futures import ForwardBackwardFuture
from loops_core.client.link import TrainerLink
from loops_core.errors import UsageError
from loops_core.protocols import BodyLimits
from loops_core.types.datum import Datum
from loops_core.types.operation import ForwardBody, OperationKind
from loops_core.types.training import ForwardBackwardOutput, LossFnConfig

_PAIRED_LOSSES: Final = frozenset({"dpo"})
"""Losses of neighbouring datums, which travel together."""

_MOST_TOP_K: Final = 20


def submit_pass(
    link: TrainerLink,
    kind: OperationKind,
    data: Sequence[Datum],
    loss_fn: str,
    loss_fn_config: LossFnConfig | None,
    *,
    top_k_logprobs: int = 0,
    idempotency_key: str | None = None,
    amend: Callable[[ForwardBackwardOutput], ForwardBackwardOutput] | None = None,
) -> Flow[ForwardBackwardFuture]:
    """Submit the data in as many requests as the transport needs, and return their one future.

    Args:
        link: the trainer.
        kind: `forward` or `forward_backward`.
        data: the batch.
        loss_fn: the loss's name.
        loss_fn_config: the loss's settings.
        top_k_logprobs: how many most likely tokens to return with each position.
        idempotency_key: the caller's own key; None makes one.
        amend: changes the joined result before anybody sees it.
    """
    link.check_open()
    batch = check_data(data)
    key = check_key(idempotency_key)
    limits = link.driver.transport.body_limits(link.settings.base_url)
    bodies = _bodies(limits, batch, loss_fn, loss_fn_config, top_k_logprobs)
    if limits.takes_parts:
        whole = yield from link.submit_parts(
            kind, ForwardBackwardOutput, bodies, idempotency_key=key, announce_metrics=False
        )
        parts, counts = [whole], [len(batch)]
    else:
        parts = yield from link.submit_all(
            kind, ForwardBackwardOutput, bodies, idempotency_key=key, announce_metrics=False
        )
        counts = [len(body.data) for body in bodies]
    future = ForwardBackwardFuture(
        link.host,
        parts,
        partial(_join, num_data=counts, amend=amend),
        on_settled=link.metrics_teller(kind, parts[0].operation_id),
    )
    link.watch(future)
    return future


def _bodies(
    limits: BodyLimits,
    data: list[Datum],
    loss_fn: str,
    loss_fn_config: LossFnConfig | None,
    top_k_logprobs: int,
) -> list[ForwardBody]:
    check_text("loss_fn", loss_fn)
    check_int("top_k_logprobs", top_k_logprobs, minimum=0)
    if top_k_logprobs > _MOST_TOP_K:
        raise UsageError(
            f"top_k_logprobs must be at most {_MOST_TOP_K}, not {top_k_logprobs}",
            field="top_k_logprobs",
        )
    with usage_errors():
        whole = ForwardBody(
            data=data,
            loss_fn=loss_fn,
            loss_fn_config=loss_fn_config,
            top_k_logprobs=top_k_logprobs,
        )
    config = "" if limits.max_bytes is None else whole.model_dump_json(exclude={"data"})
    parts = chunking.split(
        data,
        largest_bytes=limits.max_bytes,
        group=2 if loss_fn in _PAIRED_LOSSES else 1,
        config_bytes=len(config),
        size_of=chunking.packed_datum_bytes if limits.is_packed else chunking.datum_bytes,
    )
    if len(parts) == 1:
        return [whole]
    return [whole.model_copy(update={"data": part}) for part in parts]


def _join(
    outputs: Sequence[ForwardBackwardOutput],
    *,
    num_data: Sequence[int],
    amend: Callable[[ForwardBackwardOutput], ForwardBackwardOutput] | None,
) -> ForwardBackwardOutput:
    joined = chunking.join(outputs, num_data)
    return joined if amend is None else amend(joined)
