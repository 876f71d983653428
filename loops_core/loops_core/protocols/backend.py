"""What a backend is, and what a run asks of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from loops_core.protocols.losses import LossFunction
from loops_core.protocols.sampling import Sampler, SamplerSpec
from loops_core.protocols.training import Trainer, TrainerSpec


class Backend(Protocol):
    """Opens trainers and samplers; those of one base model share its frozen weights."""

    @property
    def name(self) -> str:
        """Return the name that a URL such as `inproc:jax` gives."""
        ...

    def open_trainer(self, spec: TrainerSpec) -> Trainer:
        """Return a trainer on the model in `spec.model_dir`.

        Raises:
            UnsupportedError: the architecture is not offered; the message lists those that are.
            CheckpointError: the directory's files are damaged or missing.
        """
        ...

    def open_sampler(self, spec: SamplerSpec) -> Sampler:
        """Return a sampler on the model in `spec.model_dir`; raises as `open_trainer` does."""
        ...

    def close(self) -> None:
        """Give back the shared weights; may be called twice."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendConfig:
    """What a backend is opened with.

    Attributes:
        losses: the losses that plugins brought.
        options: the query part of the URL, such as `dtype=bfloat16`; a backend refuses what it
            does not know.
    """

    losses: tuple[LossFunction, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What a run needs, for whoever decides where it lives.

    Attributes:
        run_id: the run.
        backend: the backend's name.
        trainer: what its trainer is opened on.
    """

    run_id: str
    backend: str
    trainer: TrainerSpec
