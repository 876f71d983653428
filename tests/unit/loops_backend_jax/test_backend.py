"""The backend behind its hook: models loaded once, options checked, closed for good."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests.numerics.cases import GOLDEN

from loops_backend_jax.backend import JaxBackend
from loops_backend_jax.config import BackendSettings
from loops_backend_jax.losses.cross_entropy import CROSS_ENTROPY
from loops_backend_jax.plugin import loops_backend
from loops_core.errors import NotFoundError, UsageError
from loops_core.protocols import BackendConfig, SamplerSpec, TrainerSpec

SPEC = TrainerSpec(base_model="tiny", model_dir=GOLDEN / "qwen3")


def test_the_hook_answers_to_its_name_only() -> None:
    found = loops_backend("jax", BackendConfig(options={"dtype": "bfloat16"}))
    assert found is not None
    assert found.name == "jax"
    assert loops_backend("mock", BackendConfig()) is None


def test_the_hook_refuses_unknown_options() -> None:
    with pytest.raises(UsageError, match="dtypes=bfloat16"):
        loops_backend("jax", BackendConfig(options={"dtypes": "bfloat16"}))


def test_trainers_and_samplers_of_one_model_share_its_weights(tmp_path: Path) -> None:
    model_dir = tmp_path / "model"
    model_dir.symlink_to(SPEC.model_dir)
    backend = JaxBackend(BackendSettings())
    first = backend.open_trainer(SPEC)
    second = backend.open_trainer(dataclasses.replace(SPEC, model_dir=model_dir))
    assert first._base is second._base  # pyright: ignore[reportPrivateUsage]  # memory shows nowhere
    sampler = backend.open_sampler(SamplerSpec(base_model="tiny", model_dir=model_dir))
    assert sampler.describe().vocab_size == first.describe().vocab_size


def test_losses_of_plugins_are_offered() -> None:
    other = dataclasses.replace(CROSS_ENTROPY, name="other")
    trainer = JaxBackend(BackendSettings(), (other,)).open_trainer(SPEC)
    offered = trainer.describe().losses
    assert offered["other"] is other
    assert "cross_entropy" in offered


def test_a_trainer_says_what_it_allows() -> None:
    description = JaxBackend(BackendSettings()).open_trainer(SPEC).describe()
    limits = (description.vocab_size, description.max_seq_len, description.max_lora_rank)
    assert limits == (320, 512, 64)
    assert not description.images


@pytest.mark.parametrize("max_seq_len", [0, 513])
def test_a_length_beyond_the_model_is_refused(max_seq_len: int) -> None:
    spec = dataclasses.replace(SPEC, max_seq_len=max_seq_len)
    with pytest.raises(UsageError, match=f"max_seq_len is {max_seq_len}; expected 1 to 512"):
        JaxBackend(BackendSettings()).open_trainer(spec)


def test_a_missing_model_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="base_model"):
        JaxBackend(BackendSettings()).open_trainer(dataclasses.replace(SPEC, model_dir=tmp_path))


def test_a_closed_backend_says_so() -> None:
    backend = JaxBackend(BackendSettings())
    backend.close()
    backend.close()
    with pytest.raises(UsageError, match="closed"):
        backend.open_trainer(SPEC)
