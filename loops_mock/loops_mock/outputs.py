"""What a client sees of a pass: loss, metrics, and tensors for every datum."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from loops_core.protocols import LossFunction, LossSettings
from loops_core.protocols.loss_specs import SKIP_NORMALIZATION
from loops_core.types.tensor import TensorData
from loops_core.types.training import IGNORED_TARGET, ForwardBackwardOutput
from loops_mock.exact import Floats
from loops_mock.passes import PassResult, RowResult

MAX_TOP_K: Final = 20
"""The most tokens a position that `top_k_logprobs` may ask for."""


def make_output(
    result: PassResult, loss: LossFunction, settings: LossSettings, *, top_k: int = 0
) -> ForwardBackwardOutput:
    """Return what a client sees; `loss` is the mean over active positions, 0 without any.

    Args:
        result: of the forward pass.
        loss: what was asked for.
        settings: the loss's, completed.
        top_k: how many of the likeliest tokens to name at each position; 0 = none.
    """
    active = float(result.num_active)
    metrics = {
        "loss": result.loss_sum / max(active, 1.0),
        "loss:sum": result.loss_sum,
        "active_tokens": active,
        "active_tokens:sum": active,
    }
    if settings.get(SKIP_NORMALIZATION):
        metrics[SKIP_NORMALIZATION] = 1.0
    return ForwardBackwardOutput(
        loss=metrics["loss"],
        loss_fn_output_type="per_token_logprobs",
        loss_fn_outputs=[_make_tensors(row, loss, top_k) for row in result.rows],
        metrics=metrics,
    )


def rank_tokens(log_probs: Floats, top_k: int) -> NDArray[np.int64]:
    """Return the ids of the likeliest tokens, [..., k], likeliest first; ties by the lower id."""
    return np.argsort(-log_probs, axis=-1, kind="stable")[..., :top_k].astype(np.int64)


def _make_tensors(result: RowResult, loss: LossFunction, top_k: int) -> dict[str, TensorData]:
    """Return a row's tensors.

    Where there is no target a logprob is NaN and a token -100. An inactive position that has a
    target shows its logprob, or, for losses that hide it, 0.0.
    """
    row = result.row
    shown = row.active if loss.hides_inactive else row.scored
    logprobs = np.where(shown, result.logprobs, 0.0)
    logprobs[~row.scored] = np.nan
    tensors = {"logprobs": _to_float32(logprobs)}
    if loss.combine is None:
        tensors["elementwise_loss"] = _to_float32(result.elementwise)
    if top_k:
        asked = shown.reshape(len(row.tokens), -1).any(axis=1, keepdims=True)
        ids = rank_tokens(result.softmax.log_probs, top_k)
        best = np.take_along_axis(result.softmax.log_probs, ids, axis=1)
        tensors["topk_ids"] = TensorData.from_numpy(np.where(asked, ids, IGNORED_TARGET))
        tensors["topk_logprobs"] = _to_float32(np.where(asked, best, np.nan))
    return tensors


def _to_float32(array: Floats) -> TensorData:
    """Return a tensor; it is made of parts that fit, so nothing is checked again."""
    flat = array.astype(np.float32).reshape(-1)
    return TensorData.model_construct(data=flat, dtype="float32", shape=list(array.shape))
