"""The trainer of the JAX backend: calls, checks and state; the maths is in `train`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

from loops_backend_jax.lora.adapter import make_adapter_spec
from loops_backend_jax.train.call import MAX_TOP_K, CallPlan, CallResult, make_plan, run_call
from loops_backend_jax.train.outputs import make_output
from loops_backend_jax.train.saving import load_train_state, save_train_state, state_digest
from loops_backend_jax.train.state import TrainState, init_state, make_state
from loops_backend_jax.train.step import (
    AdamScalars,
    add_gradients,
    all_finite,
    optim_pass,
)
from loops_backend_jax.weights.load import BaseModel
from loops_backend_jax.weights.peft import is_peft_dir, load_peft, save_peft
from loops_core.errors import CheckpointError, RemoteOpError, UsageError
from loops_core.protocols import LossFunction, TrainerDescription, TrainerSpec
from loops_core.protocols.loss_specs import SKIP_NORMALIZATION
from loops_core.protocols.rows import Row, make_rows
from loops_core.types.datum import Datum
from loops_core.types.training import AdamParams, ForwardBackwardOutput, LossFnConfig


@final
class JaxTrainer:
    """One adapter on a shared frozen model; fulfils `loops_core.protocols.Trainer`."""

    def __init__(
        self, base: BaseModel, spec: TrainerSpec, losses: Mapping[str, LossFunction]
    ) -> None:
        """Keep what is shared; `init` or `load` makes the state.

        Raises:
            UsageError: `spec.max_seq_len` is beyond what the model allows.
        """
        allowed = base.config.max_positions
        max_seq_len = allowed if spec.max_seq_len is None else spec.max_seq_len
        if not 1 <= max_seq_len <= allowed:
            raise UsageError(
                f"max_seq_len is {max_seq_len}; expected 1 to {allowed}, the model's own limit",
                field="max_seq_len",
            )
        self._base: BaseModel | None = base
        self._spec = spec
        self._description = TrainerDescription(
            vocab_size=base.config.vocab_size,
            max_seq_len=max_seq_len,
            max_lora_rank=base.config.model_width,
            losses=losses,
            max_top_k_logprobs=MAX_TOP_K,
        )
        self._state: TrainState | None = None

    def describe(self) -> TrainerDescription:
        """Return what this trainer is; constant over its life."""
        return self._description

    @property
    def rank(self) -> int:
        """Return the adapter's rank."""
        return self._ready()[1].spec.rank

    @property
    def step(self) -> int:
        """Return how many optimizer steps were applied."""
        return self._ready()[1].step

    def init(self, *, rank: int, seed: int) -> None:
        """Start over with a fresh adapter on all linear layers, alpha 32, step 0.

        Raises:
            UsageError: a rank outside 1 to `describe().max_lora_rank`.
        """
        if rank > self._description.max_lora_rank:
            limit = self._description.max_lora_rank
            raise UsageError(f"rank is {rank}; expected 1 to {limit}", field="rank")
        spec = make_adapter_spec(rank=rank)
        self._state = init_state(self._open_base().config, spec, seed=seed)

    def forward(
        self,
        data: Sequence[Datum],
        *,
        loss_fn: str,
        loss_fn_config: LossFnConfig,
        top_k_logprobs: int = 0,
    ) -> ForwardBackwardOutput:
        """Return loss and outputs; changes nothing.

        Raises:
            UsageError: data, loss or config are wrong; the message names them.
            RemoteOpError: the loss is not finite.
        """
        plan = self._plan(loss_fn, loss_fn_config, top_k_logprobs)
        rows = self._rows(data, loss_fn)
        return _output(self._run(plan, rows, with_gradients=False), rows, plan)

    def forward_backward(
        self,
        data: Sequence[Datum],
        *,
        loss_fn: str,
        loss_fn_config: LossFnConfig,
        top_k_logprobs: int = 0,
    ) -> ForwardBackwardOutput:
        """Return what `forward` returns, and add the loss SUM's gradient to the accumulator.

        Raises:
            UsageError: as in `forward`; or `skip_token_normalization` is not that of the pending
                gradients.
            RemoteOpError: loss or gradients are not finite; nothing was added.
        """
        _, state = self._ready()
        plan = self._plan(loss_fn, loss_fn_config, top_k_logprobs)
        normalised = not _skips(plan)
        if state.normalised not in (None, normalised):
            raise UsageError(
                f"{SKIP_NORMALIZATION} is {not normalised}, the pending gradients were made with"
                f" {normalised}; expected the same in all calls before one optim_step;"
                " call optim_step first",
                field="loss_fn_config",
            )
        rows = self._rows(data, loss_fn)
        result = self._run(plan, rows, with_gradients=True)
        output, gradients = _output(result, rows, plan), result.gradients
        if not bool(all_finite(gradients)):
            raise _not_finite("a gradient")
        if state.gradients is not None:
            gradients = add_gradients(state.gradients, gradients)
        self._state = dataclasses.replace(
            state,
            gradients=gradients,
            num_active=state.num_active + result.num_active,
            normalised=normalised,
        )
        return output

    def optim_step(self, adam_params: AdamParams) -> dict[str, float]:
        """Apply one Adam step with the pending gradients, empty them, return metrics.

        Raises:
            UsageError: there are no gradients since the last step.
            RemoteOpError: the step would leave numbers that are not finite; nothing was applied.
        """
        _, state = self._ready()
        if state.gradients is None:
            raise UsageError(
                "optim_step: no gradients since the last step; expected forward_backward before it"
            )
        # Without one active position every gradient is zero, whatever divides it.
        divisor = max(1, state.num_active) if state.normalised else 1
        result = optim_pass(
            state.factors,
            state.first_moment,
            state.second_moment,
            state.gradients,
            state.step,
            AdamScalars(
                learning_rate=adam_params.learning_rate,
                beta1=adam_params.beta1,
                beta2=adam_params.beta2,
                eps=adam_params.eps,
                weight_decay=adam_params.weight_decay,
                grad_clip_norm=adam_params.grad_clip_norm,
                divisor=float(divisor),
            ),
        )
        trees = {
            "factors": result.factors,
            "first_moment": result.first_moment,
            "second_moment": result.second_moment,
        }
        if not bool(result.ok):  # the old buffers were given up; these hold the old values
            self._state = dataclasses.replace(state, **trees)
            raise _not_finite("the adapter after this step")
        self._state = TrainState(spec=state.spec, step=state.step + 1, **trees)
        return {
            "grad_norm": float(result.grad_norm),
            "learning_rate": adam_params.learning_rate,
            "step": float(state.step + 1),
            "active_tokens": float(state.num_active),
        }

    def save(self, path: Path) -> None:
        """Write the complete state into an empty directory."""
        base, state = self._ready()
        save_train_state(path, state, base.config)

    def load(self, path: Path, *, optimizer: bool) -> None:
        """Read what `save` wrote; without `optimizer` weights only, also from a PEFT directory.

        Raises:
            CheckpointError: the files are damaged, foreign, or of another base model's shapes.
        """
        config = self._open_base().config
        if is_peft_dir(path):
            if optimizer:
                raise CheckpointError(
                    f"{path} holds an adapter without optimizer state; use load_state for it"
                )
            self._state = make_state(*load_peft(path, config))
            return
        state = load_train_state(path, config)
        self._state = state if optimizer else make_state(state.spec, state.factors)

    def export_adapter(self, path: Path) -> None:
        """Write the adapter in PEFT format into an empty directory, float32, without rounding."""
        base, state = self._ready()
        name = self._spec.base_model
        save_peft(path, base.config, state.spec, state.factors, base_model=name)

    def digest(self) -> str:
        """Return a SHA-256 of the complete state: equal states, equal digests."""
        return state_digest(self._ready()[1])

    def close(self) -> None:
        """Give back memory; may be called twice."""
        self._base = self._state = None

    def _open_base(self) -> BaseModel:
        if self._base is None:
            raise UsageError("this trainer is closed; open another one")
        return self._base

    def _ready(self) -> tuple[BaseModel, TrainState]:
        base = self._open_base()
        if self._state is None:
            raise UsageError("this trainer has no adapter yet; expected init or load first")
        return base, self._state

    def _plan(self, loss_fn: str, loss_fn_config: LossFnConfig, top_k_logprobs: int) -> CallPlan:
        """Return what the call does, its settings checked and completed."""
        base, loss = self._open_base(), self._loss(loss_fn)
        if not 0 <= top_k_logprobs <= MAX_TOP_K:
            raise UsageError(
                f"top_k_logprobs is {top_k_logprobs}; expected 0 to {MAX_TOP_K}",
                field="top_k_logprobs",
            )
        return make_plan(base.model, base.settings, loss, loss_fn_config, top_k=top_k_logprobs)

    def _loss(self, loss_fn: str) -> LossFunction:
        losses = self._description.losses
        if loss_fn not in losses:
            raise UsageError(
                f"loss_fn is {loss_fn!r}; expected one of {', '.join(sorted(losses))}",
                field="loss_fn",
            )
        return losses[loss_fn]

    def _rows(self, data: Sequence[Datum], loss_fn: str) -> list[Row]:
        limits = self._description
        return make_rows(
            data,
            self._loss(loss_fn),
            vocab_size=limits.vocab_size,
            max_seq_len=limits.max_seq_len,
        )

    def _run(self, plan: CallPlan, rows: Sequence[Row], *, with_gradients: bool) -> CallResult:
        base, state = self._ready()
        return run_call(
            plan,
            base.params,
            state,
            rows,
            max_batch_tokens=base.settings.max_batch_tokens,
            with_gradients=with_gradients,
        )


def _skips(plan: CallPlan) -> bool:
    return bool(plan.settings.get(SKIP_NORMALIZATION, False))


def _output(result: CallResult, rows: Sequence[Row], plan: CallPlan) -> ForwardBackwardOutput:
    if not result.is_finite:
        raise _not_finite("the loss")
    return make_output(result, rows, plan)


def _not_finite(what: str) -> RemoteOpError:
    return RemoteOpError(
        f"{what} holds NaN or infinity; the state is as before; lower the learning rate, or load an"
        " earlier checkpoint",
        error_class="FloatingPointError",
    )
