"""A GGUF file comes out as the Hugging Face directory that it was made from."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load

from loops_backend_jax.config import load_model_config
from loops_backend_jax.resolvers.gguf import convert_gguf
from loops_core.errors import CheckpointError

WIDTH, HEADS, KV_HEADS, FF, VOCAB = 32, 4, 2, 64, 6
TOKENS = ["<unk>", "<s>", "<e>", "a", "b", "ab"]


def load_weights(directory: Path) -> dict[str, np.ndarray]:
    return load((directory / "model.safetensors").read_bytes())


def write_gguf(
    path: Path, *, extra: str | None = None, arch: str = "llama"
) -> dict[str, np.ndarray]:
    writer = gguf.GGUFWriter(path, arch)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FF)
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, 1, 1, 1])
    writer.add_token_merges(["a b"])
    for name, token_id in (("unk", 0), ("bos", 1), ("eos", 2), ("pad", 2)):
        getattr(writer, f"add_{name}_token_id")(token_id)
    writer.add_chat_template("{{ messages }}")
    tensors = make_tensors(extra)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def make_tensors(extra: str | None) -> dict[str, np.ndarray]:
    kv_width = WIDTH // HEADS * KV_HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (VOCAB, WIDTH),
        "output_norm.weight": (WIDTH,),
        "blk.0.attn_norm.weight": (WIDTH,),
        "blk.0.attn_q.weight": (WIDTH, WIDTH),
        "blk.0.attn_k.weight": (kv_width, WIDTH),
        "blk.0.attn_v.weight": (kv_width, WIDTH),
        "blk.0.attn_output.weight": (WIDTH, WIDTH),
        "blk.0.ffn_norm.weight": (WIDTH,),
        "blk.0.ffn_gate.weight": (FF, WIDTH),
        "blk.0.ffn_up.weight": (FF, WIDTH),
        "blk.0.ffn_down.weight": (WIDTH, FF),
    }
    if extra is not None:
        shapes[extra] = (WIDTH,)
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def converted(tmp_path: Path) -> tuple[dict[str, np.ndarray], Path]:
    tensors = write_gguf(tmp_path / "model.gguf")
    out = tmp_path / "out"
    out.mkdir()
    convert_gguf(tmp_path / "model.gguf", out)
    return tensors, out


def test_weights_keep_their_values_under_hugging_face_names(
    converted: tuple[dict[str, np.ndarray], Path],
) -> None:
    tensors, out = converted
    weights = load_weights(out)
    assert len(weights) == len(tensors)
    down = weights["model.layers.0.mlp.down_proj.weight"]
    np.testing.assert_array_equal(down, tensors["blk.0.ffn_down.weight"])
    np.testing.assert_array_equal(
        weights["model.embed_tokens.weight"], tensors["token_embd.weight"]
    )


def test_query_and_key_rows_are_put_back_by_head(
    converted: tuple[dict[str, np.ndarray], Path],
) -> None:
    tensors, out = converted
    weights = load_weights(out)
    half = WIDTH // HEADS // 2
    for name, short, heads in (("q_proj", "attn_q", HEADS), ("k_proj", "attn_k", KV_HEADS)):
        stored = tensors[f"blk.0.{short}.weight"].reshape(heads, 2 * half, WIDTH)
        found = weights[f"model.layers.0.self_attn.{name}.weight"].reshape(stored.shape)
        for i in range(half):  # pair i of a rotation: neighbours there, half a head apart here
            np.testing.assert_array_equal(found[:, i], stored[:, 2 * i])
            np.testing.assert_array_equal(found[:, i + half], stored[:, 2 * i + 1])


def test_the_config_is_one_that_the_backend_reads(
    converted: tuple[dict[str, np.ndarray], Path],
) -> None:
    config = load_model_config(converted[1])
    assert (config.num_heads, config.num_kv_heads, config.ff_width) == (HEADS, KV_HEADS, FF)
    assert config.norm_eps == 1e-5
    assert config.tied_embeddings


def test_the_tokenizer_merges_and_splits_digits(
    converted: tuple[dict[str, np.ndarray], Path],
) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(converted[1] / "tokenizer.json"))
    assert tokenizer.encode("abba<e>").ids == [5, 4, 3, 2]
    settings = json.loads((converted[1] / "tokenizer_config.json").read_text())
    assert (settings["eos_token"], settings["unk_token"]) == ("<e>", "<unk>")


def test_a_tensor_of_another_family_is_refused_by_name(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", extra="blk.0.ffn_gate_inp.weight")
    with pytest.raises(CheckpointError, match=r"blk\.0\.ffn_gate_inp"):
        convert_gguf(tmp_path / "model.gguf", tmp_path)


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", arch="gpt2")
    with pytest.raises(CheckpointError, match="gpt2"):
        convert_gguf(tmp_path / "model.gguf", tmp_path)
