"""One call over any number of rows: batches, compiled passes, per-row results."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Final, cast, final

import jax
import numpy as np

from loops_backend_jax.config import BackendSettings
from loops_backend_jax.lora.adapter import Factors, Params
from loops_backend_jax.models.decoder import Decoder
from loops_backend_jax.train.batching import gather_rows, make_batches
from loops_backend_jax.train.state import TrainState
from loops_backend_jax.train.step import (
    LossCombine,
    LossCompute,
    PassPlan,
    PassResult,
    forward_backward_pass,
    forward_pass,
    zero_gradients,
)
from loops_core.protocols import LossFunction, LossSettings
from loops_core.protocols.loss_settings import complete_settings
from loops_core.protocols.rows import Row
from loops_core.types.training import LossFnConfig

MAX_TOP_K: Final = 20
"""The most tokens a position that `top_k_logprobs` may ask for; as many are always computed, so
that another number compiles nothing."""


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """What a call over rows gives back.

    Attributes:
        loss_sum: over all terms of the loss.
        num_active: active positions of all rows.
        logprobs: for each row float32 in the shape of its targets; 0 where not scored.
        elementwise: for each row what the loss made of each target; 0 where not active.
        likeliest_ids, likeliest_logprobs: for each row the likeliest tokens of its positions, [N,
            n]; empty lists where they were not asked for.
        gradients: of the loss sum, in the tree of the factors; None if they were not asked for.
    """

    loss_sum: float
    num_active: int
    logprobs: list[np.ndarray]
    elementwise: list[np.ndarray]
    likeliest_ids: list[np.ndarray]
    likeliest_logprobs: list[np.ndarray]
    gradients: Factors | None

    @property
    def is_finite(self) -> bool:
        """Return whether loss and log-probabilities are; says nothing of the gradients."""
        return math.isfinite(self.loss_sum) and all(np.isfinite(x).all() for x in self.logprobs)


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """What a call does.

    Attributes:
        passes: what its passes are compiled for.
        loss: the loss.
        settings: the loss's, completed.
        top_k: how many of the likeliest tokens were asked for.
    """

    passes: PassPlan
    loss: LossFunction
    settings: LossSettings
    top_k: int

    @property
    def numbers(self) -> dict[str, float]:
        """Return the loss's settings that are numbers: another value compiles nothing."""
        found = self.settings.items()
        return {name: float(value) for name, value in found if not isinstance(value, bool)}


def make_plan(
    model: Decoder,
    settings: BackendSettings,
    loss: LossFunction,
    loss_fn_config: LossFnConfig,
    *,
    top_k: int = 0,
) -> CallPlan:
    """Return what a call does, the loss's settings completed.

    Raises:
        UsageError: a key that the loss does not know, or a value of the wrong type or size.
    """
    chosen = complete_settings(loss, loss_fn_config)
    flags = ((name, value) for name, value in chosen.items() if isinstance(value, bool))
    passes = PassPlan(
        model=model,
        # a loss's numbers reach it as scalars of its backend's array library
        compute=cast("LossCompute", loss.compute),
        combine=cast("LossCombine | None", loss.combine),
        rows_per_term=loss.rows_per_term,
        flags=tuple(sorted(flags)),
        num_likeliest=min(MAX_TOP_K, model.config.vocab_size) if top_k else 0,
        max_logits_bytes=settings.max_logits_bytes,
    )
    return CallPlan(passes=passes, loss=loss, settings=chosen, top_k=top_k)


def run_call(
    plan: CallPlan,
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
    placements = make_batches(
        rows, max_batch_tokens=max_batch_tokens, rows_per_term=plan.loss.rows_per_term
    )
    gradients = zero_gradients(state.factors) if with_gradients else None
    results: list[PassResult] = []
    for placement in placements:
        inputs = (params, state.factors, state.spec.scale)
        if gradients is None:
            result = forward_pass(*inputs, placement.batch, plan.numbers, plan=plan.passes)
        else:
            gradients, result = forward_backward_pass(
                *inputs, gradients, placement.batch, plan.numbers, plan=plan.passes
            )
        results.append(result)

    def gathered(values: Sequence[jax.Array | None]) -> list[np.ndarray]:
        arrays = [np.asarray(value) for value in values if value is not None]
        return gather_rows(placements, arrays, rows) if arrays else []

    return CallResult(
        loss_sum=math.fsum(float(result.loss_sum) for result in results),
        num_active=sum(row.num_active for row in rows),
        logprobs=gathered([result.logprobs for result in results]),
        elementwise=gathered([result.elementwise for result in results]),
        likeliest_ids=gathered([result.likeliest_ids for result in results]),
        likeliest_logprobs=gathered([result.likeliest_logprobs for result in results]),
        gradients=gradients,
    )
