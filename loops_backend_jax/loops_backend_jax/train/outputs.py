"""What a client sees of a call: loss, metrics, and tensors for every datum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loops_backend_jax.train.call import CallPlan, CallResult
from loops_core.protocols.loss_specs import SKIP_NORMALIZATION
from loops_core.protocols.rows import Row
from loops_core.types.tensor import TensorData
from loops_core.types.training import IGNORED_TARGET, ForwardBackwardOutput

_NAN = np.float32(np.nan)


def make_output(result: CallResult, rows: Sequence[Row], plan: CallPlan) -> ForwardBackwardOutput:
    """Return what a client sees; the loss is the mean over active positions, 0 without any."""
    active = float(result.num_active)
    metrics = {
        "loss": result.loss_sum / max(active, 1.0),
        "loss:sum": result.loss_sum,
        "active_tokens": active,
        "active_tokens:sum": active,
    }
    if plan.settings.get(SKIP_NORMALIZATION):
        metrics[SKIP_NORMALIZATION] = 1.0
    return ForwardBackwardOutput(
        loss=metrics["loss"],
        loss_fn_output_type="per_token_logprobs",
        loss_fn_outputs=[_tensors(number, row, result, plan) for number, row in enumerate(rows)],
        metrics=metrics,
    )


def _tensors(number: int, row: Row, result: CallResult, plan: CallPlan) -> dict[str, TensorData]:
    """Return a row's tensors.

    Where there is no target a logprob is NaN and a token -100. An inactive position that has a
    target shows its logprob, or, for losses that hide it, 0.0.
    """
    shown = row.active if plan.loss.hides_inactive else row.scored
    logprobs = np.where(shown, result.logprobs[number], np.float32(0.0))
    tensors = {"logprobs": TensorData.from_numpy(np.where(row.scored, logprobs, _NAN))}
    if plan.loss.combine is None:
        tensors["elementwise_loss"] = TensorData.from_numpy(result.elementwise[number])
    if plan.top_k:
        asked = shown.reshape(len(row.tokens), -1).any(axis=1, keepdims=True)
        ids = result.likeliest_ids[number][:, : plan.top_k].astype(np.int64)
        best = result.likeliest_logprobs[number][:, : plan.top_k]
        tensors["topk_ids"] = TensorData.from_numpy(np.where(asked, ids, IGNORED_TARGET))
        tensors["topk_logprobs"] = TensorData.from_numpy(np.where(asked, best, _NAN))
    return tensors
