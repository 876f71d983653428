"""What saved files promise: every bit comes back, and damage is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loops_core.errors import CheckpointError
from loops_core.types.datum import Datum
from loops_mock import files
from loops_mock.config import LM_HEAD, MIXER, ModelConfig
from loops_mock.trainer import MockTrainer


@pytest.fixture
def saved(trainer: MockTrainer, tmp_path: Path) -> Path:
    path = tmp_path / "saved"
    path.mkdir()
    trainer.save(path)
    return path


@pytest.fixture
def exported(trainer: MockTrainer, tmp_path: Path) -> Path:
    path = tmp_path / "exported"
    path.mkdir()
    trainer.export_adapter(path)
    return path


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_state_comes_back_bit_for_bit(
    saved: Path, trainer: MockTrainer, config: ModelConfig
) -> None:
    assert files.load_state(saved, config).digest() == trainer.digest()


def test_the_same_state_gives_the_same_files(
    saved: Path, trainer: MockTrainer, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    again.mkdir()
    trainer.save(again)
    names = sorted(path.name for path in saved.iterdir())
    assert names == ["state.json", "state.npz"]
    assert all((again / name).read_bytes() == (saved / name).read_bytes() for name in names)


def test_an_adapter_is_laid_out_as_peft_lays_it_out(exported: Path, config: ModelConfig) -> None:
    header = json.loads((exported / "adapter_config.json").read_text())
    assert (header["peft_type"], header["r"], header["lora_alpha"]) == ("LORA", 3, 32.0)
    assert header["base_model_name_or_path"] == "mock-test"
    assert header["target_modules"] == [MIXER, LM_HEAD]
    with np.load(exported / "adapter_model.npz", allow_pickle=False) as arrays:
        shapes = {name: (arrays[name].dtype.name, arrays[name].shape) for name in arrays.files}
    assert shapes == {
        "base_model.model.mixer.lora_A.weight": ("float32", (3, config.hidden_size)),
        "base_model.model.mixer.lora_B.weight": ("float32", (config.hidden_size, 3)),
        "base_model.model.lm_head.lora_A.weight": ("float32", (3, config.hidden_size)),
        "base_model.model.lm_head.lora_B.weight": ("float32", (config.vocab_size, 3)),
    }


@pytest.mark.parametrize("name", ["state.json", "state.npz"])
def test_a_state_cut_short_anywhere_is_refused(saved: Path, config: ModelConfig, name: str) -> None:
    whole = (saved / name).read_bytes()
    for length in range(0, len(whole) - 2, max(len(whole) // 40, 1)):
        (saved / name).write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=name):
            files.load_state(saved, config)


def test_a_changed_byte_never_passes_for_the_state(
    saved: Path, config: ModelConfig, trainer: MockTrainer
) -> None:
    whole = (saved / "state.npz").read_bytes()
    for position in range(0, len(whole), 47):
        changed = bytearray(whole)
        changed[position] ^= 1 << (position % 8)
        (saved / "state.npz").write_bytes(changed)
        try:
            state = files.load_state(saved, config)
        except CheckpointError:
            continue
        # Only bytes that carry nothing, such as a time stamp in the archive, may change unseen.
        assert state.digest() == trainer.digest()


@pytest.mark.parametrize(
    "fields",
    [
        {"format": "other"},
        {"step": 5},
        {"rank": 4},
        {"rank": True},
        {"alpha": "32"},
        {"alpha": float("inf")},
        {"target_modules": ["mixer", "nowhere"]},
        {"target_modules": []},
        {"pending": None},
        {"pending": {}},
        {"pending": 3},
        {"digest": None},
    ],
)
def test_a_state_with_a_changed_header_is_refused(
    saved: Path, config: ModelConfig, fields: dict[str, Any]
) -> None:
    edit(saved / "state.json", **fields)
    with pytest.raises(CheckpointError):
        files.load_state(saved, config)


@pytest.mark.parametrize("text", ["", "[1]", "{}", "nul", '{"r":'])
def test_a_header_that_is_no_object_is_refused(saved: Path, config: ModelConfig, text: str) -> None:
    (saved / "state.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"state\.json"):
        files.load_state(saved, config)


@pytest.mark.parametrize(
    "fields",
    [
        {"peft_type": "IA3"},
        {"bias": "all"},
        {"use_dora": True},
        {"use_rslora": True},
        {"rank_pattern": {"mixer": 4}},
        {"alpha_pattern": {"mixer": 4}},
        {"r": 0},
        {"r": None},
        {"r": files.MAX_RANK + 1},
        {"lora_alpha": None},
        {"lora_alpha": float("nan")},
        {"target_modules": None},
        {"target_modules": ["q_proj"]},
        {"target_modules": ["mixer", "mixer"]},
        {"target_modules": ["mixer"]},
    ],
)
def test_an_adapter_that_would_compute_something_else_is_refused(
    exported: Path, config: ModelConfig, fields: dict[str, Any]
) -> None:
    edit(exported / "adapter_config.json", **fields)
    with pytest.raises(CheckpointError):
        files.load_adapter(exported, config)


def test_an_adapter_of_a_wider_model_is_refused(exported: Path, config: ModelConfig) -> None:
    wider = config.model_copy(update={"vocab_size": config.vocab_size + 1})
    with pytest.raises(CheckpointError, match="another base model"):
        files.load_adapter(exported, wider)


def test_weights_that_are_not_finite_are_refused(exported: Path, config: ModelConfig) -> None:
    with np.load(exported / "adapter_model.npz") as arrays:
        weights = {name: arrays[name] for name in arrays.files}
    next(iter(weights.values()))[0, 0] = np.nan
    np.savez(exported / "adapter_model.npz", allow_pickle=False, **weights)
    with pytest.raises(CheckpointError, match="not finite"):
        files.load_adapter(exported, config)


def test_pickled_arrays_are_never_opened(exported: Path, config: ModelConfig) -> None:
    np.savez(exported / "adapter_model.npz", weights=np.array([{"a": 1}], dtype=object))
    with pytest.raises(CheckpointError, match="allow_pickle"):
        files.load_adapter(exported, config)


def test_an_empty_directory_is_refused(
    tmp_path: Path, config: ModelConfig, make_trainer: Callable[[], MockTrainer], data: list[Datum]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CheckpointError, match=r"state\.json"):
        files.load_state(empty, config)
    with pytest.raises(CheckpointError, match=r"adapter_config\.json"):
        files.load_adapter(empty, config)
