"""The mock trainer: a state, and calls that replace it or leave it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, final

from loops_core.errors import CheckpointError, UnsupportedError, UsageError
from loops_core.protocols import LossSettings, TrainerDescription
from loops_core.protocols.loss_settings import complete_settings
from loops_core.protocols.loss_specs import SKIP_NORMALIZATION
from loops_core.protocols.rows import make_rows
from loops_core.types.datum import Datum
from loops_core.types.training import AdamParams, ForwardBackwardOutput, LossFnConfig
from loops_mock import files
from loops_mock.losses import EXACT_LOSSES, ExactLoss
from loops_mock.model import Gradient, Model, Policy, make_adapter
from loops_mock.outputs import MAX_TOP_K, make_output
from loops_mock.passes import PassResult, add_gradients, run_backward, run_forward
from loops_mock.state import Pending, TrainerState, apply_adam

ALPHA: Final = 32.0
"""The alpha of a fresh adapter, whatever its rank."""


@final
class MockTrainer:
    """A `Trainer` on a `Model`.

    The state is a value: every call computes its successor and puts it in place as its last act, so
    a call that raises has changed nothing. Gradients are added datum by datum in float64, so a
    batch in one call and the same batch in several leave the same bits.
    """

    def __init__(
        self,
        model: Model,
        *,
        base_model: str,
        max_seq_len: int,
        losses: Mapping[str, ExactLoss] = EXACT_LOSSES,
    ) -> None:
        """Stand on a model, without a state yet."""
        self._losses = losses
        self._model = model
        self._base_model = base_model
        self._max_seq_len = max_seq_len
        self._max_top_k = min(MAX_TOP_K, model.config.vocab_size)
        self._state: TrainerState | None = None
        self._policy: Policy | None = None

    def describe(self) -> TrainerDescription:
        """Return sizes and losses."""
        return TrainerDescription(
            vocab_size=self._model.config.vocab_size,
            max_seq_len=self._max_seq_len,
            max_lora_rank=files.MAX_RANK,
            losses={name: loss.function for name, loss in self._losses.items()},
            max_top_k_logprobs=self._max_top_k,
        )

    @property
    def rank(self) -> int:
        """Return the adapter's rank."""
        return self._need_state().adapter.rank

    @property
    def step(self) -> int:
        """Return the number of optimizer steps applied."""
        return self._need_state().step

    def init(self, *, rank: int, seed: int) -> None:
        """Start over with a fresh adapter; see `Trainer.init`."""
        if not 1 <= rank <= files.MAX_RANK:
            raise UsageError(
                f"rank is {rank}; expected an integer from 1 to {files.MAX_RANK}", field="rank"
            )
        adapter = make_adapter(self._model.config, rank=rank, alpha=ALPHA, seed=seed)
        self._state = TrainerState.fresh(adapter)

    def forward(
        self,
        data: Sequence[Datum],
        *,
        loss_fn: str,
        loss_fn_config: LossFnConfig,
        top_k_logprobs: int = 0,
    ) -> ForwardBackwardOutput:
        """Return loss and outputs; see `Trainer.forward`."""
        loss, settings = self._choose(loss_fn, loss_fn_config, top_k_logprobs)
        result = self._run(data, loss, settings)
        return make_output(result, loss.function, settings, top_k=top_k_logprobs)

    def forward_backward(
        self,
        data: Sequence[Datum],
        *,
        loss_fn: str,
        loss_fn_config: LossFnConfig,
        top_k_logprobs: int = 0,
    ) -> ForwardBackwardOutput:
        """Return loss and outputs, add to the gradients; see `Trainer.forward_backward`."""
        loss, settings = self._choose(loss_fn, loss_fn_config, top_k_logprobs)
        state, skip = self._need_state(), bool(settings.get(SKIP_NORMALIZATION))
        pending = state.pending
        if pending is not None and pending.skip_normalization != skip:
            raise UsageError(
                f"{SKIP_NORMALIZATION} is {skip} and was {not skip} in calls since the last "
                "optim_step; expected the same in all of them; call optim_step in between",
                field="loss_fn_config",
            )
        result = self._run(data, loss, settings)
        policy = self._open_policy()
        gradient: Gradient | None = None if pending is None else pending.gradient
        for row, slope in zip(result.rows, result.slopes, strict=True):
            added = run_backward(policy, row, loss, settings, slope=slope)
            gradient = added if gradient is None else add_gradients(gradient, added)
        assert gradient is not None  # there is at least one row
        before = 0 if pending is None else pending.active
        output = make_output(result, loss.function, settings, top_k=top_k_logprobs)
        self._state = replace(state, pending=Pending(gradient, before + result.num_active, skip))
        return output

    def optim_step(self, adam_params: AdamParams) -> dict[str, float]:
        """Apply one Adam step; see `Trainer.optim_step`."""
        self._state, metrics = apply_adam(self._need_state(), adam_params)
        return metrics

    def save(self, path: Path) -> None:
        """Write the complete state into an empty directory."""
        files.save_state(self._need_state(), path)

    def load(self, path: Path, *, optimizer: bool) -> None:
        """Read what `save` wrote, or an adapter directory for weights only; see `Trainer.load`."""
        config = self._model.config
        if files.is_state(path):
            state = files.load_state(path, config)
            self._state = state if optimizer else TrainerState.fresh(state.adapter)
        elif optimizer:
            raise CheckpointError(
                f"checkpoint {path} has no optimizer state; expected one that save_state wrote; "
                "load_state reads adapters without it"
            )
        else:
            self._state = TrainerState.fresh(files.load_adapter(path, config))

    def export_adapter(self, path: Path) -> None:
        """Write the adapter into an empty directory, as `loops_mock.files` lays it out."""
        files.export_adapter(self._need_state().adapter, self._base_model, path)

    def digest(self) -> str:
        """Return a SHA-256 of the complete state."""
        return self._need_state().digest()

    def close(self) -> None:
        """Forget the state."""
        self._state = self._policy = None

    def _need_state(self) -> TrainerState:
        if self._state is None:
            raise UsageError("the trainer holds no adapter; expected init or load before this call")
        return self._state

    def _run(self, data: Sequence[Datum], loss: ExactLoss, settings: LossSettings) -> PassResult:
        policy = self._open_policy()
        rows = make_rows(
            data,
            loss.function,
            vocab_size=self._model.config.vocab_size,
            max_seq_len=self._max_seq_len,
        )
        return run_forward(policy, rows, loss, settings)

    def _open_policy(self) -> Policy:
        """Return the model with the state's adapter, made once for each adapter."""
        adapter = self._need_state().adapter
        if self._policy is None or self._policy.adapter is not adapter:
            self._policy = self._model.prepare(adapter)
        return self._policy

    def _choose(
        self, loss_fn: str, loss_fn_config: LossFnConfig, top_k_logprobs: int
    ) -> tuple[ExactLoss, LossSettings]:
        """Return the loss and its settings, with defaults for those that are not given."""
        if loss_fn not in self._losses:
            raise UsageError(
                f"loss_fn is {loss_fn!r}; expected one of {', '.join(self._losses)}",
                field="loss_fn",
            )
        if not 0 <= top_k_logprobs <= self._max_top_k:
            raise UnsupportedError(
                f"top_k_logprobs is {top_k_logprobs}; expected 0 to {self._max_top_k}",
                field="top_k_logprobs",
            )
        loss = self._losses[loss_fn]
        return loss, complete_settings(loss.function, loss_fn_config)
