"""The built-in model: the same bytes everywhere, readable by the field's libraries."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from loops_backend_jax.config import load_model_config
from loops_backend_jax.resolvers import builtin
from loops_backend_jax.resolvers.make_tokenizer import make_tokenizer_json


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = builtin.resolve_builtin("loops-tiny", tmp_path_factory.mktemp("cache"))
    assert found is not None
    return found


def test_another_name_is_left_to_others(tmp_path: Path) -> None:
    assert builtin.resolve_builtin("loops-tiny-2", tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_the_weights_are_these_bytes(model_dir: Path) -> None:
    digest = hashlib.sha256((model_dir / "model.safetensors").read_bytes()).hexdigest()
    assert digest == "4b7eb63122e36d46c7f393ed67ab5595f0095c04a8838ec227e9eb2317545a0f"


def test_the_config_is_one_that_the_backend_reads(model_dir: Path) -> None:
    config = load_model_config(model_dir)
    assert (config.family, config.vocab_size, config.tied_embeddings) == ("llama", 512, True)


def test_activations_keep_their_size_through_a_linear_layer() -> None:
    weights = builtin.make_weights()
    x = np.random.default_rng(0).standard_normal((256, builtin.MODEL_WIDTH)).astype(np.float32)
    out = x @ weights["model.layers.0.self_attn.q_proj.weight"].T
    # 256 x 128 draws: the spread of their standard deviation is far below a tenth
    assert abs(float(out.std()) - 1.0) < 0.1


def test_the_shipped_tokenizer_is_the_one_that_the_script_makes() -> None:
    shipped = Path(builtin.__file__).with_name("tiny_tokenizer.json").read_text("utf-8")
    assert shipped == make_tokenizer_json()


def test_the_tokenizer_takes_any_text_and_gives_it_back(model_dir: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    text = "  Spaces, días, 中文, \N{SNOWMAN}\n\ttabs"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.get_vocab_size() == builtin.VOCAB_SIZE


@pytest.mark.slow
def test_the_chat_template_ends_where_the_answer_begins(model_dir: Path) -> None:
    import transformers

    tokenizer = cast("Any", transformers.AutoTokenizer).from_pretrained(model_dir)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|user|>Hi<|end|><|assistant|>"
    assert tokenizer.eos_token_id == builtin.SPECIAL_TOKENS.index("<|end|>")
