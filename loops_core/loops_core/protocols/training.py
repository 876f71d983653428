"""What a trainer is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from loops_core.protocols.losses import LossFunction
from loops_core.types.datum import Datum
from loops_core.types.training import AdamParams, ForwardBackwardOutput, LossFnConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerSpec:
    """What a trainer should be opened on.

    Attributes:
        base_model: the model's name as the user gave it, for messages and metadata.
        model_dir: a local directory with config.json and safetensors.
        max_seq_len: most positions of one datum; None = what the model allows.
    """

    base_model: str
    model_dir: Path
    max_seq_len: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerDescription:
    """What a trainer is and can do; its submits are checked against this.

    Attributes:
        vocab_size: token ids are in [0, vocab_size).
        max_seq_len: most positions of one datum.
        max_lora_rank: largest rank that `init` takes.
        losses: the losses it offers, by name.
        max_top_k_logprobs: largest `top_k_logprobs`; 0 = not offered.
        images: whether image chunks are read.
    """

    vocab_size: int
    max_seq_len: int
    max_lora_rank: int
    losses: Mapping[str, LossFunction]
    max_top_k_logprobs: int = 0
    images: bool = False


class Trainer(Protocol):
    """One LoRA adapter, its optimizer and its gradient accumulator, on a frozen base model.

    A deterministic state machine: the same calls in the same order give the same bytes, in another
    process too. Called from one thread at a time (any thread). A call that raises has changed
    nothing. What a call returns is its caller's: the trainer keeps no reference to it, and its
    arrays are made read-only. Arguments were checked against `describe()` before; a trainer checks
    what only it can know. `init` or `load` comes first; before that every other call but `describe`
    and `close` raises `UsageError`.
    """

    def describe(self) -> TrainerDescription:
        """Return what this trainer is; constant over its life."""
        ...

    @property
    def rank(self) -> int:
        """Return the adapter's rank."""
        ...

    @property
    def step(self) -> int:
        """Return how many optimizer steps were applied since `init` or the loaded state's start."""
        ...

    def init(self, *, rank: int, seed: int) -> None:
        """Start over: a fresh adapter (B zero, A drawn from `seed`), empty optimizer, step 0."""
        ...

    def forward(
        self,
        data: Sequence[Datum],
        *,
        loss_fn: str,
        loss_fn_config: LossFnConfig,
        top_k_logprobs: int = 0,
    ) -> ForwardBackwardOutput:
        """Return loss and outputs; changes nothing."""
        ...

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
            UsageError: the call is normalised and pending gradients are not (or the reverse):
                `skip_token_normalization` must be the same in all calls before one `optim_step`.
        """
        ...

    def optim_step(self, adam_params: AdamParams) -> dict[str, float]:
        """Apply one Adam step with the accumulated gradients, empty them, return metrics.

        The gradients are divided once by the number of active positions of all calls since the
        last step (not at all when those calls asked for `skip_token_normalization`). Metrics:
        `grad_norm` (global, after normalisation, before clipping), `learning_rate`, `step`,
        `active_tokens`; all finite.

        Raises:
            UsageError: nothing was accumulated since the last step.
        """
        ...

    def save(self, path: Path) -> None:
        """Write adapter, moments, step and pending gradients into an empty directory."""
        ...

    def load(self, path: Path, *, optimizer: bool) -> None:
        """Read what `save` wrote; the adapter's rank is adopted.

        With `optimizer` the state is bit for bit what was saved. Without it, weights only: moments
        and step start fresh and nothing is pending; then `path` may also be a PEFT adapter
        directory, whose rank, alpha and target modules are adopted.

        Raises:
            CheckpointError: the files are damaged, foreign, or of another base model's shapes.
        """
        ...

    def export_adapter(self, path: Path) -> None:
        """Write the adapter in PEFT format into an empty directory, float32, without rounding."""
        ...

    def digest(self) -> str:
        """Return a SHA-256 of the complete state: equal states, equal digests."""
        ...

    def close(self) -> None:
        """Give back memory; may be called twice."""
        ...
