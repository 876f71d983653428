"""The JAX backend: trainers and samplers that share the frozen weights of their base model."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import final

from loops_backend_jax.config import BackendSettings
from loops_backend_jax.losses import make_losses
from loops_backend_jax.sampler import JaxSampler
from loops_backend_jax.trainer import JaxTrainer
from loops_backend_jax.weights.load import BaseModel, load_base_model
from loops_core.errors import UsageError
from loops_core.protocols import LossFunction, SamplerSpec, TrainerSpec


@final
class JaxBackend:
    """Opens trainers and samplers; fulfils `loops_core.protocols.Backend`."""

    def __init__(self, settings: BackendSettings, losses: tuple[LossFunction, ...] = ()) -> None:
        """Keep the settings; models are loaded when they are first asked for.

        Raises:
            PluginError: two losses have one name.
        """
        self._settings = settings
        self._losses: Mapping[str, LossFunction] = make_losses(losses)
        self._bases: dict[Path, BaseModel] | None = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Return `jax`."""
        return "jax"

    def open_trainer(self, spec: TrainerSpec) -> JaxTrainer:
        """Return a trainer on the model in `spec.model_dir`.

        Raises:
            NotFoundError: there is no model there.
            UnsupportedError: the architecture is not offered; the message lists those that are.
            CheckpointError: the directory's files are damaged or missing.
        """
        return JaxTrainer(self._base(spec.model_dir), spec, self._losses)

    def open_sampler(self, spec: SamplerSpec) -> JaxSampler:
        """Return a sampler on the model in `spec.model_dir`; raises as `open_trainer` does."""
        return JaxSampler(self._base(spec.model_dir), spec)

    def close(self) -> None:
        """Give back the shared weights; may be called twice."""
        with self._lock:
            self._bases = None

    def _base(self, model_dir: Path) -> BaseModel:
        """Return the model of a directory, loaded once."""
        with self._lock:
            if self._bases is None:
                raise UsageError("this backend is closed; open another one")
            key = model_dir.resolve()
            if key not in self._bases:
                self._bases[key] = load_base_model(key, self._settings)
            return self._bases[key]
