"""A backend: opens trainers and samplers, and offers the losses of every plugin."""

from __future__ import annotations

from typing import final

from loops_core.errors import UsageError
from loops_core.protocols import BackendConfig, SamplerSpec, TrainerSpec
from loops_toy.sampler import ToySampler
from loops_toy.state import load_sizes
from loops_toy.trainer import ToyTrainer


@final
class ToyBackend:
    """A `Backend`; see there for what each call promises."""

    def __init__(self, config: BackendConfig) -> None:
        if config.options:
            raise UsageError(f"options {sorted(config.options)} are not known; expected none")
        self._losses = {loss.name: loss for loss in config.losses}

    @property
    def name(self) -> str:
        return "toy"

    def open_trainer(self, spec: TrainerSpec) -> ToyTrainer:
        vocab_size, longest = load_sizes(spec.model_dir)
        return ToyTrainer(
            vocab_size=vocab_size, max_seq_len=spec.max_seq_len or longest, losses=self._losses
        )

    def open_sampler(self, spec: SamplerSpec) -> ToySampler:
        vocab_size, longest = load_sizes(spec.model_dir)
        return ToySampler(vocab_size=vocab_size, max_seq_len=spec.max_seq_len or longest)

    def close(self) -> None:
        pass
