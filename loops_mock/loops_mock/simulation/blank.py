"""A backend without maths: it shows what everything around a model costs, and takes any data."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

from loops_core.errors import CheckpointError, UsageError
from loops_core.protocols import (
    Array,
    LossFunction,
    SampledTokens,
    SampleHandle,
    SampleOutcome,
    SamplerDescription,
    SampleRequest,
    SamplerSpec,
    TrainerDescription,
    TrainerSpec,
)
from loops_core.types.datum import Datum
from loops_core.types.training import AdamParams, ForwardBackwardOutput, LossFnConfig

_MOST: Final = 1_000_000
_STATE: Final = "blank.json"
_TOKENS: Final = 16


def _no_loss(target_logprobs: Array, *_: object) -> Array:
    return -target_logprobs


_LOSS: Final = LossFunction(
    name="cross_entropy",
    compute=_no_loss,
    source="none: nothing is computed",
    multiple_targets=True,
)


@final
class BlankTrainer:
    """A `Trainer` that counts passes and steps, and returns empty outputs."""

    def __init__(self) -> None:
        """Start without an adapter."""
        self._state: dict[str, int] = {"rank": 0, "step": 0, "pending": 0, "passes": 0}

    def describe(self) -> TrainerDescription:
        """Return sizes that nothing here will reach."""
        return TrainerDescription(
            vocab_size=_MOST, max_seq_len=_MOST, max_lora_rank=_MOST, losses={_LOSS.name: _LOSS}
        )

    @property
    def rank(self) -> int:
        """Return the rank that was asked for."""
        return self._state["rank"]

    @property
    def step(self) -> int:
        """Return how many steps were taken."""
        return self._state["step"]

    def init(self, *, rank: int, seed: int) -> None:
        """Start over."""
        del seed
        self._state = {"rank": rank, "step": 0, "pending": 0, "passes": 0}

    def forward(
        self,
        data: Sequence[Datum],
        *,
        loss_fn: str,
        loss_fn_config: LossFnConfig,
        top_k_logprobs: int = 0,
    ) -> ForwardBackwardOutput:
        """Return a loss that says how many passes there were."""
        del loss_fn, loss_fn_config, top_k_logprobs
        number = float(self._state["passes"])
        return ForwardBackwardOutput(
            loss=number,
            loss_fn_outputs=[{} for _ in data],
            metrics={"loss": number},
        )

    def forward_backward(self, data: Sequence[Datum], **options: Any) -> ForwardBackwardOutput:
        """Count a pass; return what `forward` does."""
        self._state["passes"] += 1
        self._state["pending"] += 1
        return self.forward(data, **options)

    def optim_step(self, adam_params: AdamParams) -> dict[str, float]:
        """Count a step; return how many passes it has used.

        Raises:
            UsageError: there were none.
        """
        if not self._state["pending"]:
            raise UsageError("optim_step has nothing to apply: call forward_backward first")
        passes = float(self._state["pending"])
        self._state.update(step=self.step + 1, pending=0)
        return {
            "step": float(self.step),
            "learning_rate": adam_params.learning_rate,
            "active_tokens": passes,
            "grad_norm": 0.0,
        }

    def save(self, path: Path) -> None:
        """Write the counts into an empty directory."""
        (path / _STATE).write_text(json.dumps(self._state))

    def load(self, path: Path, *, optimizer: bool) -> None:
        """Read what `save` wrote."""
        try:
            saved = json.loads((path / _STATE).read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"checkpoint {path} is not one of a blank backend") from error
        self._state = saved if optimizer else {**saved, "step": 0, "pending": 0}

    def export_adapter(self, path: Path) -> None:
        """Write the counts: there are no weights."""
        self.save(path)

    def digest(self) -> str:
        """Return a SHA-256 of the counts."""
        return hashlib.sha256(json.dumps(self._state, sort_keys=True).encode()).hexdigest()

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


@final
class BlankSampler:
    """A `Sampler` that draws the same token at each step, until a request has all it asked for."""

    def __init__(self) -> None:
        """Start without requests."""
        self._left: dict[SampleHandle, tuple[SampleRequest, int]] = {}
        self._handles = itertools.count(1)

    def describe(self) -> SamplerDescription:
        """Return sizes that nothing here will reach."""
        return SamplerDescription(vocab_size=_MOST, max_seq_len=_MOST)

    def load_adapter(self, adapter_id: str, path: Path) -> None:
        """Do nothing: there are no weights."""

    def drop_adapter(self, adapter_id: str) -> None:
        """Do nothing: there are no weights."""

    def submit(self, request: SampleRequest) -> SampleHandle:
        """Queue a request."""
        handle = SampleHandle(next(self._handles))
        num_tokens = _TOKENS if request.max_tokens is None else request.max_tokens
        self._left[handle] = (request, num_tokens)
        return handle

    def cancel(self, handle: SampleHandle) -> None:
        """Forget a request."""
        self._left.pop(handle, None)

    def step(self) -> list[SampleOutcome]:
        """Draw a token for each request; return those that have theirs."""
        outcomes: list[SampleOutcome] = []
        for handle, (request, left) in list(self._left.items()):
            if left > 1:
                self._left[handle] = (request, left - 1)
                continue
            del self._left[handle]
            num_tokens = _TOKENS if request.max_tokens is None else request.max_tokens
            drawn = SampledTokens(
                tokens=(1,) * num_tokens, logprobs=(0.0,) * num_tokens, stop_reason="length"
            )
            outcomes.append(SampleOutcome(handle=handle, sequences=(drawn,) * request.num_samples))
        return outcomes

    def close(self) -> None:
        """Forget the requests."""
        self._left.clear()


@final
class BlankBackend:
    """A `Backend` of blank trainers and samplers, for any model."""

    @property
    def name(self) -> str:
        """Return `blank`."""
        return "blank"

    def open_trainer(self, spec: TrainerSpec) -> BlankTrainer:
        """Return a trainer."""
        del spec
        return BlankTrainer()

    def open_sampler(self, spec: SamplerSpec) -> BlankSampler:
        """Return a sampler."""
        del spec
        return BlankSampler()

    def close(self) -> None:
        """Do nothing: there are no weights."""
