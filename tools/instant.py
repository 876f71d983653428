"""A backend whose passes return at once: what is left is the cost of Loops itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np

from loops_core.errors import UnsupportedError
from loops_core.hooks import hookimpl
from loops_core.protocols import (
    Backend,
    BackendConfig,
    LossFunction,
    Sampler,
    SamplerSpec,
    TrainerDescription,
    TrainerSpec,
)
from loops_core.types.datum import Datum
from loops_core.types.tensor import TensorData
from loops_core.types.training import AdamParams, ForwardBackwardOutput, LossFnConfig

MODEL = "instant"

LOSSES = {
    name: LossFunction(name=name, compute=lambda logprobs, _inputs, _settings: -logprobs, source="")
    for name in ("cross_entropy", "ppo")
}


@final
class InstantTrainer:
    """A `Trainer` without weights: every log-probability is 0."""

    rank = 0
    step = 0

    def __init__(self) -> None:
        """Hold nothing."""
        self._outputs: dict[tuple[int, ...], ForwardBackwardOutput] = {}

    def describe(self) -> TrainerDescription:
        """Return limits that no benchmark reaches."""
        return TrainerDescription(
            vocab_size=200_000, max_seq_len=65_536, max_lora_rank=64, losses=LOSSES
        )

    def init(self, *, rank: int, seed: int) -> None:
        """Remember the rank."""
        del seed
        self.rank = rank

    def forward(
        self,
        data: Sequence[Datum],
        *,
        loss_fn: str,
        loss_fn_config: LossFnConfig,
        top_k_logprobs: int = 0,
    ) -> ForwardBackwardOutput:
        """Return zeros in the shape of the data, made once for each shape."""
        del loss_fn, loss_fn_config, top_k_logprobs
        lengths = tuple(datum.model_input.length for datum in data)
        if lengths not in self._outputs:
            zeros = [TensorData.from_numpy(np.zeros(n, dtype=np.float32)) for n in lengths]
            self._outputs[lengths] = ForwardBackwardOutput(
                loss_fn_outputs=[{"logprobs": tensor} for tensor in zeros],
                metrics={"loss": 0.0, "active_tokens": float(sum(lengths))},
            )
        return self._outputs[lengths]

    forward_backward = forward

    def optim_step(self, adam_params: AdamParams) -> dict[str, float]:
        """Count the step."""
        self.step += 1
        return {"learning_rate": adam_params.learning_rate, "step": float(self.step)}

    def save(self, path: Path) -> None:
        """Write nothing: there is no state."""

    def load(self, path: Path, *, optimizer: bool) -> None:
        """Read nothing."""

    def export_adapter(self, path: Path) -> None:
        """Write nothing."""

    def digest(self) -> str:
        """Return a constant."""
        return ""

    def close(self) -> None:
        """Give back nothing."""


@final
class InstantBackend:
    """A `Backend` of instant trainers."""

    name = "instant"

    def open_trainer(self, spec: TrainerSpec) -> InstantTrainer:
        """Return a trainer."""
        del spec
        return InstantTrainer()

    def open_sampler(self, spec: SamplerSpec) -> Sampler:
        """Refuse: nothing is sampled here."""
        raise UnsupportedError(f"{spec.base_model} is not sampled from")

    def close(self) -> None:
        """Give back nothing."""


@hookimpl
def loops_backend(name: str, config: BackendConfig) -> Backend | None:
    """Return the backend `instant`."""
    del config
    return InstantBackend() if name == "instant" else None


@hookimpl
def loops_resolve_model(base_model: str) -> Path | None:
    """Return some directory for the model `instant`: nothing is read from it."""
    return Path(__file__).parent if base_model == MODEL else None


@hookimpl
def loops_model_names() -> Sequence[str]:
    """Return the one name."""
    return [MODEL]
