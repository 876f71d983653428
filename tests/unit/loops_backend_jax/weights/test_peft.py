"""Adapters written in the PEFT format and read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.numerics.cases import GOLDEN, Tensors, draw_factors, read_tensors, write_tensors

from loops_backend_jax.config import ModelConfig, load_model_config
from loops_backend_jax.lora.adapter import ALL_TARGETS, make_adapter_spec
from loops_backend_jax.lora.tree import get_array, iter_arrays
from loops_backend_jax.weights.peft import load_peft, save_peft
from loops_core.errors import CheckpointError

FILE = "adapter_model.safetensors"
PREFIX = "base_model.model.model.layers"


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return load_model_config(GOLDEN / "qwen3")


@pytest.fixture
def adapter_dir(config: ModelConfig, tmp_path: Path) -> Path:
    spec = make_adapter_spec(rank=3, alpha=5.0, targets=("q_proj", "down_proj"))
    save_peft(tmp_path, config, spec, draw_factors(config, spec), base_model="some/model")
    return tmp_path


def change_fields(directory: Path, **fields: object) -> None:
    path = directory / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("targets", [ALL_TARGETS, ("q_proj", "down_proj"), ("lm_head",)])
def test_an_adapter_read_back_is_the_one_written(
    config: ModelConfig, tmp_path: Path, targets: tuple[str, ...]
) -> None:
    spec = make_adapter_spec(rank=3, alpha=5.0, targets=targets)
    factors = draw_factors(config, spec)
    save_peft(tmp_path, config, spec, factors, base_model="some/model")
    found_spec, found = load_peft(tmp_path, config)
    assert found_spec == spec
    ours, theirs = dict(iter_arrays(factors)), dict(iter_arrays(found))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[path], theirs[path]) for path in ours)


def test_tensors_have_the_names_and_shapes_of_the_format(
    config: ModelConfig, adapter_dir: Path
) -> None:
    tensors = read_tensors(adapter_dir / FILE)
    assert len(tensors) == 2 * 2 * config.num_layers
    a = tensors[f"{PREFIX}.0.self_attn.q_proj.lora_A.weight"]
    b = tensors[f"{PREFIX}.2.mlp.down_proj.lora_B.weight"]
    assert (a.shape, b.shape) == ((3, config.model_width), (config.model_width, 3))
    assert {array.dtype for array in tensors.values()} == {np.dtype("f4")}
    _, factors = load_peft(adapter_dir, config)
    ours = get_array(factors, ("layers", "self_attn", "q_proj", "lora_a"))
    assert np.array_equal(a, ours[0].T)


def test_the_config_says_what_other_readers_ask_for(adapter_dir: Path) -> None:
    fields = json.loads((adapter_dir / "adapter_config.json").read_text())
    assert fields["peft_type"] == "LORA"
    assert (fields["r"], fields["lora_alpha"]) == (3, 5)
    assert fields["target_modules"] == ["q_proj", "down_proj"]
    assert fields["base_model_name_or_path"] == "some/model"
    assert fields["task_type"] == "CAUSAL_LM"


def test_a_pattern_of_targets_is_read_from_the_tensors(
    config: ModelConfig, adapter_dir: Path
) -> None:
    change_fields(adapter_dir, target_modules=r".*\.(q_proj|down_proj)")
    assert load_peft(adapter_dir, config)[0].targets == ("q_proj", "down_proj")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"peft_type": "LOHA"}, "peft_type LORA"),
        ({"use_rslora": True}, "use_rslora is True"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"r": "3"}, "r is '3'"),
        ({"r": 0}, "rank is 0"),
        ({"r": 4}, "another rank"),
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"target_modules": ["q_proj"]}, "target_modules"),
        ({"target_modules": ["q_proj", "down_proj", "embed_tokens"]}, "embed_tokens"),
    ],
)
def test_an_adapter_with_other_arithmetic_is_refused_by_name(
    config: ModelConfig, adapter_dir: Path, fields: dict[str, object], named: str
) -> None:
    change_fields(adapter_dir, **fields)
    with pytest.raises(CheckpointError, match=named):
        load_peft(adapter_dir, config)


def drop(tensors: Tensors) -> None:
    del tensors[f"{PREFIX}.1.self_attn.q_proj.lora_A.weight"]


def add(tensors: Tensors) -> None:
    tensors[f"{PREFIX}.3.self_attn.q_proj.lora_A.weight"] = np.ones((3, 64), np.float32)


def cut(tensors: Tensors) -> None:
    name = f"{PREFIX}.1.mlp.down_proj.lora_B.weight"
    tensors[name] = np.ascontiguousarray(tensors[name][:-1])


def poison(tensors: Tensors) -> None:
    tensors[f"{PREFIX}.1.mlp.down_proj.lora_B.weight"][0, 0] = np.nan


def make_integers(tensors: Tensors) -> None:
    name = f"{PREFIX}.1.mlp.down_proj.lora_B.weight"
    tensors[name] = tensors[name].astype(np.int32)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (drop, r"1\.self_attn\.q_proj\.lora_A\.weight' is missing"),
        (add, r"3\.self_attn\.q_proj\.lora_A\.weight' is unexpected"),
        (cut, r"lora_B of model\.layers\.1\.mlp\.down_proj"),
        (poison, "not finite"),
        (make_integers, "int32"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(
    config: ModelConfig,
    adapter_dir: Path,
    change: Callable[[Tensors], None],
    named: str,
) -> None:
    tensors = read_tensors(adapter_dir / FILE)
    change(tensors)
    write_tensors(tensors, adapter_dir / FILE)
    with pytest.raises(CheckpointError, match=named):
        load_peft(adapter_dir, config)


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_truncated_or_missing_file_is_refused_by_name(
    config: ModelConfig, adapter_dir: Path, file: str
) -> None:
    whole = (adapter_dir / file).read_bytes()
    (adapter_dir / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=file):
        load_peft(adapter_dir, config)
    (adapter_dir / file).unlink()
    with pytest.raises(CheckpointError, match=file):
        load_peft(adapter_dir, config)
