"""A trainer for a handful of numbers: gradients are differences, of any plugin's loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import final

import numpy as np

from loops_core.errors import UsageError
from loops_core.protocols import LossFunction, TrainerDescription
from loops_core.types.datum import Datum
from loops_core.types.tensor import TensorData
from loops_core.types.training import AdamParams, ForwardBackwardOutput, LossFnConfig
from loops_toy.state import ADAPTER, STATE, Floats, ToyState, log_probs

STEP = 1e-6


@final
class ToyTrainer:
    """A `Trainer`; see there for what each call promises."""

    def __init__(
        self, *, vocab_size: int, max_seq_len: int, losses: Mapping[str, LossFunction]
    ) -> None:
        self._description = TrainerDescription(
            vocab_size=vocab_size, max_seq_len=max_seq_len, max_lora_rank=8, losses=losses
        )
        self._state: ToyState | None = None

    def describe(self) -> TrainerDescription:
        return self._description

    @property
    def rank(self) -> int:
        return self._need().rank

    @property
    def step(self) -> int:
        return self._need().step

    def init(self, *, rank: int, seed: int) -> None:
        del seed  # nothing here is drawn
        self._state = ToyState.fresh(rank, [0.0] * self._description.vocab_size)

    def forward(
        self,
        data: Sequence[Datum],
        *,
        loss_fn: str,
        loss_fn_config: LossFnConfig,
        top_k_logprobs: int = 0,
    ) -> ForwardBackwardOutput:
        del top_k_logprobs  # the description offers none
        return self._run(data, loss_fn, loss_fn_config, self._need().logits)

    def forward_backward(
        self,
        data: Sequence[Datum],
        *,
        loss_fn: str,
        loss_fn_config: LossFnConfig,
        top_k_logprobs: int = 0,
    ) -> ForwardBackwardOutput:
        del top_k_logprobs
        state, skip = self._need(), bool(loss_fn_config.get("skip_token_normalization", False))
        if state.pending is not None and state.skip != skip:
            raise UsageError("skip_token_normalization differs from that of pending gradients")
        output = self._run(data, loss_fn, loss_fn_config, state.logits)
        gradient = np.zeros(len(state.logits))
        for number in range(len(gradient)):
            for sign in (1, -1):
                logits = list(state.logits)
                logits[number] += sign * STEP
                loss = self._run(data, loss_fn, loss_fn_config, logits).metrics["loss:sum"]
                gradient[number] += sign * loss / (2 * STEP)
        before = np.zeros(len(gradient)) if state.pending is None else np.array(state.pending)
        after = copy(state)
        after.pending = (before + gradient).tolist()
        after.active = state.active + int(output.metrics["active_tokens"])
        after.skip = skip
        self._state = after
        return output

    def optim_step(self, adam_params: AdamParams) -> dict[str, float]:
        state, p = self._need(), adam_params
        if state.pending is None:
            raise UsageError("optim_step has no gradients; expected a forward_backward before it")
        g = np.array(state.pending) / (1 if state.skip else max(state.active, 1))
        norm = float(np.linalg.norm(g))
        if 0 < p.grad_clip_norm < norm:
            g *= p.grad_clip_norm / norm
        after = ToyState.fresh(state.rank, state.logits)
        after.step = state.step + 1
        m = p.beta1 * np.array(state.first) + (1 - p.beta1) * g
        v = p.beta2 * np.array(state.second) + (1 - p.beta2) * g**2
        m_hat, v_hat = m / (1 - p.beta1**after.step), v / (1 - p.beta2**after.step)
        weights = np.array(state.logits)
        update = m_hat / (np.sqrt(v_hat) + p.eps) + p.weight_decay * weights
        after.logits = (weights - p.learning_rate * update).tolist()
        after.first, after.second = m.tolist(), v.tolist()
        self._state = after
        return {
            "grad_norm": norm,
            "learning_rate": p.learning_rate,
            "step": float(after.step),
            "active_tokens": float(state.active),
        }

    def save(self, path: Path) -> None:
        self._need().save(path / STATE)

    def load(self, path: Path, *, optimizer: bool) -> None:
        vocab_size = self._description.vocab_size
        is_adapter = not optimizer and not (path / STATE).exists()
        state = ToyState.load(path / (ADAPTER if is_adapter else STATE), vocab_size=vocab_size)
        self._state = state if optimizer else ToyState.fresh(state.rank, state.logits)

    def export_adapter(self, path: Path) -> None:
        state = self._need()
        ToyState.fresh(state.rank, state.logits).save(path / ADAPTER)

    def digest(self) -> str:
        return self._need().digest()

    def close(self) -> None:
        self._state = None

    def _need(self) -> ToyState:
        if self._state is None:
            raise UsageError("the trainer holds no weights; expected init or load before this call")
        return self._state

    def _run(
        self, data: Sequence[Datum], loss_fn: str, config: LossFnConfig, logits: list[float]
    ) -> ForwardBackwardOutput:
        loss = self._description.losses[loss_fn]
        settings: dict[str, float | bool] = {s.name: s.default for s in loss.settings}
        settings.update({k: v for k, v in config.items() if not isinstance(v, str)})
        table, loss_sum, active, outputs = log_probs(logits), 0.0, 0, list[dict[str, TensorData]]()
        for datum in data:
            targets = datum.loss_fn_inputs["target_tokens"].to_numpy()
            is_active = targets != -100
            logprobs: Floats = table[np.where(is_active, targets, 0)]
            loss_sum += float(np.where(is_active, loss.compute(logprobs, {}, settings), 0.0).sum())
            active += int(is_active.sum())
            shown = np.where(is_active, logprobs, np.nan).astype(np.float32)
            outputs.append({"logprobs": TensorData.from_numpy(shown)})
        mean = loss_sum / max(active, 1)
        metrics = {"loss": mean, "loss:sum": loss_sum, "active_tokens": float(active)}
        return ForwardBackwardOutput(loss=mean, loss_fn_outputs=outputs, metrics=metrics)
