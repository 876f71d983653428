"""What is read from `config.json`, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loops_backend_jax.config import (
    BackendSettings,
    RopeConfig,
    load_model_config,
    make_model_config,
    make_settings,
)
from loops_core.errors import CheckpointError, NotFoundError, UnsupportedError, UsageError

LLAMA: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 160,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "vocab_size": 320,
}
LLAMA3_ROPE: dict[str, object] = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def test_absent_fields_take_the_defaults_of_the_architecture() -> None:
    config = make_model_config(LLAMA)
    assert (config.num_kv_heads, config.head_size, config.norm_eps) == (4, 16, 1e-6)
    assert config.rope == RopeConfig(kind="default", theta=10000.0)
    assert [config.tied_embeddings, config.attention_bias, config.mlp_bias] == [False] * 3
    qwen = make_model_config(
        LLAMA | {"architectures": ["Qwen3ForCausalLM"], "num_key_value_heads": 2}
    )
    assert (qwen.family, qwen.head_size) == ("qwen3", 128)


def test_the_model_type_stands_in_for_absent_architectures() -> None:
    raw = {k: v for k, v in LLAMA.items() if k != "architectures"} | {"model_type": "llama"}
    assert make_model_config(raw).family == "llama"


def test_older_and_newer_rope_fields_say_the_same() -> None:
    older = {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3_ROPE}}
    newer = {"rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", **LLAMA3_ROPE}}
    oldest = {"rope_theta": 5e5, "rope_scaling": {"type": "llama3", **LLAMA3_ROPE}}
    configs = [make_model_config(LLAMA | rope) for rope in (older, newer, oldest)]
    assert configs[0] == configs[1] == configs[2]
    assert configs[0].rope == RopeConfig(
        kind="llama3",
        theta=5e5,
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_positions=8192,
    )


def test_linear_rope_scaling_is_read() -> None:
    raw = LLAMA | {"rope_scaling": {"type": "linear", "factor": 2}}
    assert make_model_config(raw).rope == RopeConfig(kind="linear", factor=2.0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "LlamaForCausalLM, Qwen3ForCausalLM"),
        ({"architectures": [], "model_type": "gpt2"}, "gpt2"),
        ({"hidden_act": "gelu"}, "silu"),
        ({"sliding_window": 4096}, "sliding_window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "default, linear, llama3"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}, "'dynamic'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"attention_dropout": 0.1}, "attention_dropout"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused_by_name(
    change: dict[str, object], named: str
) -> None:
    with pytest.raises(UnsupportedError, match=r"config\.json") as caught:
        make_model_config(LLAMA | change)
    assert named in str(caught.value)


def test_an_unused_sliding_window_is_no_obstacle() -> None:
    raw = LLAMA | {"sliding_window": 4096, "use_sliding_window": False}
    assert make_model_config(raw).family == "llama"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"vocab_size": "320"}, "vocab_size is '320'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_key_value_heads": 3}, "3 key-value heads"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'"),
        ({"rms_norm_eps": True}, "rms_norm_eps is True"),
        ({"rope_scaling": "linear"}, "rope parameters are 'linear'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor is missing"),
    ],
)
def test_a_damaged_field_is_named_and_never_converted(
    change: dict[str, object], named: str
) -> None:
    with pytest.raises(CheckpointError, match=named):
        make_model_config(LLAMA | change)


def test_a_directory_without_a_config_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        load_model_config(tmp_path)
    assert (caught.value.kind, caught.value.name) == ("model", str(tmp_path))


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_file_that_is_no_json_object_is_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_model_config(tmp_path)


def test_a_config_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert load_model_config(tmp_path) == make_model_config(LLAMA)


def test_options_of_the_url_become_settings() -> None:
    options = {"dtype": "bfloat16", "max_batch_tokens": "512", "remat": "true"}
    expected = BackendSettings(dtype="bfloat16", max_batch_tokens=512, remat=True)
    assert make_settings(options) == expected
    assert make_settings({}) == BackendSettings()
    assert make_settings({"remat": "false"}) == BackendSettings()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("dtype", "float16", "float32 or bfloat16"),
        ("max_batch_tokens", "0", "a number from 1"),
        ("max_batch_tokens", "many", "a number from 1"),
        ("remat", "yes", "true or false"),
        ("colour", "red", "one of dtype, max_batch_tokens"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_expected(
    name: str, text: str, expected: str
) -> None:
    with pytest.raises(UsageError, match=expected) as caught:
        make_settings({name: text})
    assert caught.value.field == name
