"""One call over any number of rows: batches, compiled passes, per-row results."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import final

import numpy as np

from loops_backend_jax.config import BackendSettings
from loops_backend_jax.lora.adapter import Factors, Params
from loops_backend_jax.models.decoder import Decoder
from loops_backend_jax.train.batching import gather_rows, make_batches
from loops_backend_jax.train.rows import Row
from loops_backend_jax.train.state import TrainState
from loops_backend_jax.train.step import (
    PassPlan,
    PassResult,
    forward_backward_pass,
    forward_pass,
    zero_gradients,
)
from loops_core.errors import UnsupportedError
from loops_core.protocols import LossFunction
from loops_core.protocols.loss_settings import complete_settings
from loops_core.types.training import LossFnConfig


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """What a call over rows gives back.

    Attributes:
        loss_sum: over the active targets of all rows.
        num_active: active positions of all rows.
        logprobs: for each row float32 in the shape of its targets; 0 where not scored.
        gradients: of the loss sum, in the tree of the factors; None if they were not asked for.
    """

    loss_sum: float
    num_active: int
    logprobs: list[np.ndarray]
    gradients: Factors | None

    @property
    def is_finite(self) -> bool:
        """Return whether loss and log-probabilities are; says nothing of the gradients."""
        return math.isfinite(self.loss_sum) and all(np.isfinite(x).all() for x in self.logprobs)


def make_plan(
    model: Decoder, settings: BackendSettings, loss: LossFunction, loss_fn_config: LossFnConfig
) -> PassPlan:
    """Return what the passes of a call are compiled for, the loss's settings completed.

    Raises:
        UsageError: a key that the loss does not know, or a value of the wrong type or size.
        UnsupportedError: a loss that combines rows.
    """
    if loss.combine is not None:
        raise UnsupportedError(
            f"loss_fn {loss.name!r} combines rows; expected a loss that is a sum over positions:"
            " this backend offers no other yet",
            field="loss_fn",
        )
    chosen = complete_settings(loss, loss_fn_config)
    return PassPlan(
        model=model,
        compute=loss.compute,
        loss_settings=tuple(sorted(chosen.items())),
        max_logits_bytes=settings.max_logits_bytes,
    )


def run_call(
    plan: PassPlan,
    params: Params,
    state: TrainState,
    rows: Sequence[Row],
    *,
    max_batch_tokens: int,
    with_gradients: bool,
) -> CallResult:
    """Return loss, log-probabilities and, if asked for, the gradients of the rows' loss sum.

    The state is read only; its gradients are not added to.
    """
    placements = make_batches(rows, max_batch_tokens=max_batch_tokens)
    gradients = zero_gradients(state.factors) if with_gradients else None
    results: list[PassResult] = []
    for placement in placements:
        inputs = (params, state.factors, state.spec.scale)
        if gradients is None:
            result = forward_pass(*inputs, placement.batch, plan=plan)
        else:
            gradients, result = forward_backward_pass(
                *inputs, gradients, placement.batch, plan=plan
            )
        results.append(result)
    return CallResult(
        loss_sum=math.fsum(float(result.loss_sum) for result in results),
        num_active=sum(row.num_active for row in rows),
        logprobs=gather_rows(placements, [np.asarray(r.logprobs) for r in results], rows),
        gradients=gradients,
    )
