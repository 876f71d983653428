"""The mock backend: opens trainers and samplers on mock models."""

from __future__ import annotations

from pathlib import Path
from typing import final

from loops_core.errors import UsageError
from loops_core.protocols import BackendConfig, SamplerSpec, TrainerSpec
from loops_mock.config import ModelConfig
from loops_mock.losses import make_losses
from loops_mock.model import Model
from loops_mock.sampler import MockSampler
from loops_mock.trainer import MockTrainer


@final
class MockBackend:
    """A `Backend`; trainers and samplers of one model share its frozen weights."""

    def __init__(self, config: BackendConfig) -> None:
        """Start without models.

        Raises:
            UsageError: an option is not known; there are none.
            PluginError: two losses have one name.
        """
        if config.options:
            raise UsageError(
                f"the mock backend got options {sorted(config.options)}; expected none",
                field="base_url",
            )
        self._losses = make_losses(config.losses)
        self._models: dict[ModelConfig, Model] = {}

    @property
    def name(self) -> str:
        """Return `mock`."""
        return "mock"

    def open_trainer(self, spec: TrainerSpec) -> MockTrainer:
        """Return a trainer on the model in `spec.model_dir`; see `Backend.open_trainer`."""
        model = self._open_model(spec.model_dir)
        max_seq_len = _choose_max_seq_len(spec.max_seq_len, model.config)
        return MockTrainer(
            model, base_model=spec.base_model, max_seq_len=max_seq_len, losses=self._losses
        )

    def open_sampler(self, spec: SamplerSpec) -> MockSampler:
        """Return a sampler on the model in `spec.model_dir`; see `Backend.open_sampler`."""
        model = self._open_model(spec.model_dir)
        return MockSampler(model, max_seq_len=_choose_max_seq_len(spec.max_seq_len, model.config))

    def close(self) -> None:
        """Forget the models."""
        self._models.clear()

    def _open_model(self, model_dir: Path) -> Model:
        config = ModelConfig.load(model_dir)
        if config not in self._models:
            self._models[config] = Model.from_config(config)
        return self._models[config]


def _choose_max_seq_len(asked: int | None, config: ModelConfig) -> int:
    most = config.max_position_embeddings
    if asked is not None and not 1 <= asked <= most:
        raise UsageError(
            f"max_seq_len is {asked}; expected 1 to {most}, the most this model has positions for",
            field="max_seq_len",
        )
    return most if asked is None else asked
