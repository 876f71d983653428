"""Tables applied to safetensors: one file, shards, and files that do not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from tests.numerics.cases import GOLDEN, Tensors, read_tensors, write_tensors

from loops_backend_jax.config import ModelConfig, load_model_config
from loops_backend_jax.lora.tree import get_array, iter_arrays
from loops_backend_jax.weights.load import load_params, param_shapes
from loops_core.errors import CheckpointError, NotFoundError


@pytest.fixture(params=["llama3", "llama_bias", "qwen3"])
def source(request: pytest.FixtureRequest) -> Path:
    return GOLDEN / str(request.param)


@pytest.fixture
def config(source: Path) -> ModelConfig:
    return load_model_config(source)


@pytest.fixture
def changed(source: Path, tmp_path: Path) -> Callable[[Callable[[Tensors], None]], Path]:
    """Return a function that makes a copy of the model with its tensors changed."""

    def make(change: Callable[[Tensors], None]) -> Path:
        tensors = read_tensors(source / "model.safetensors")
        change(tensors)
        write_tensors(tensors, tmp_path / "model.safetensors")
        return tmp_path

    return make


def test_every_array_stands_where_its_table_says(source: Path, config: ModelConfig) -> None:
    tensors, params = read_tensors(source / "model.safetensors"), load_params(source, config)
    shapes = {path: array.shape for path, array in iter_arrays(params)}
    assert shapes == dict(param_shapes(config))
    kernel = get_array(params, ("layers", "mlp", "up_proj", "kernel"))
    expected = tensors["model.layers.2.mlp.up_proj.weight"].T
    assert np.array_equal(kernel[2], expected)
    norm = get_array(params, ("layers", "input_layernorm", "scale"))
    assert np.array_equal(norm[1], tensors["model.layers.1.input_layernorm.weight"])


def test_shards_load_as_one_file_does(source: Path, config: ModelConfig, tmp_path: Path) -> None:
    tensors = read_tensors(source / "model.safetensors")
    names = sorted(tensors)
    shards = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, held in shards.items():
        write_tensors({name: tensors[name] for name in held}, tmp_path / file)
    index = {"weight_map": {name: file for file, held in shards.items() for name in held}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    one, two = load_params(source, config), load_params(tmp_path, config)
    whole = dict(iter_arrays(one))
    assert all(np.array_equal(whole[path], array) for path, array in iter_arrays(two))


def test_an_index_and_its_shards_must_agree(
    source: Path, config: ModelConfig, tmp_path: Path
) -> None:
    shutil.copy(source / "model.safetensors", tmp_path / "one.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": "one.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"model\.embed_tokens\.weight"):
        load_params(tmp_path, config)
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": "two.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"two\.safetensors"):
        load_params(tmp_path, config)
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": "../one.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"\.\./one\.safetensors"):
        load_params(tmp_path, config)


def test_missing_and_unexpected_tensors_are_named(
    config: ModelConfig, changed: Callable[[Callable[[Tensors], None]], Path]
) -> None:
    def rename(tensors: Tensors) -> None:
        tensors["model.layers.1.other.weight"] = tensors.pop("model.layers.1.mlp.up_proj.weight")

    with pytest.raises(CheckpointError) as caught:
        load_params(changed(rename), config)
    assert "missing model.layers.1.mlp.up_proj.weight" in str(caught.value)
    assert "unexpected model.layers.1.other.weight" in str(caught.value)


def test_a_tensor_of_another_shape_is_named(
    config: ModelConfig, changed: Callable[[Callable[[Tensors], None]], Path]
) -> None:
    def cut(tensors: Tensors) -> None:
        tensors["model.norm.weight"] = tensors["model.norm.weight"][:-1]

    with pytest.raises(CheckpointError, match=r"model\.norm\.weight makes \(63,\)"):
        load_params(changed(cut), config)


def test_a_tensor_of_another_dtype_is_named(
    config: ModelConfig, changed: Callable[[Callable[[Tensors], None]], Path]
) -> None:
    def quantise(tensors: Tensors) -> None:
        tensors["model.norm.weight"] = np.ones(64, np.int8)

    with pytest.raises(CheckpointError, match=r"'model\.norm\.weight' is stored as I8"):
        load_params(changed(quantise), config)


def test_derived_tensors_of_old_files_are_left_out(
    config: ModelConfig, changed: Callable[[Callable[[Tensors], None]], Path]
) -> None:
    def add(tensors: Tensors) -> None:
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)

    assert len(load_params(changed(add), config)) == (3 if config.tied_embeddings else 4)


def test_half_precision_files_are_spread_to_float32(
    config: ModelConfig, changed: Callable[[Callable[[Tensors], None]], Path]
) -> None:
    rounded: Tensors = {}

    def halve(tensors: Tensors) -> None:
        for name, array in tensors.items():
            tensors[name] = array.astype(ml_dtypes.bfloat16)
        rounded.update(tensors)

    params = load_params(changed(halve), config)
    table = get_array(params, ("embed_tokens", "embedding"))
    assert table.dtype == np.float32
    assert np.array_equal(table, rounded["model.embed_tokens.weight"].astype(np.float32))


def test_weights_can_be_held_in_bfloat16(source: Path, config: ModelConfig) -> None:
    params = load_params(source, config, dtype="bfloat16")
    assert {str(array.dtype) for _, array in iter_arrays(params)} == {"bfloat16"}


def test_an_unembedding_of_a_tied_model_must_be_the_embedding(tmp_path: Path) -> None:
    source = GOLDEN / "qwen3"
    config, tensors = load_model_config(source), read_tensors(source / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    write_tensors(tensors, tmp_path / "model.safetensors")
    assert "lm_head" not in load_params(tmp_path, config)
    tensors["lm_head.weight"][0, 0] += 1
    write_tensors(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="tie_word_embeddings"):
        load_params(tmp_path, config)


def test_a_directory_without_weights_is_not_found(config: ModelConfig, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="safetensors"):
        load_params(tmp_path, config)


def test_a_truncated_file_is_damaged(source: Path, config: ModelConfig, tmp_path: Path) -> None:
    whole = (source / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_params(tmp_path, config)
