"""A Llama model in one GGUF file, converted to a Hugging Face model directory with float32 weights.

GGUF interleaves the two halves of every rotary pair in the query and key rows; Hugging Face files
keep the halves apart, so those rows are put back in order. Quantised weights are spread to the
float32 values they stand for; nothing is rounded again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from loops_core.errors import CheckpointError

_progress = logging.getLogger("loops.progress")

_CONTROL_TOKEN: Final = 3
"""The tokenizer's mark of special tokens in `tokenizer.ggml.token_type`."""

_OUTER_NAMES: Final = {
    "token_embd": "model.embed_tokens.weight",
    "output_norm": "model.norm.weight",
    "output": "lm_head.weight",
}
_BLOCK_NAMES: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_DIGITS_ALONE: Final = {"type": "Digits", "individual_digits": True}
_BYTE_LEVEL: Final = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}


def convert_gguf(source: Path, directory: Path) -> None:
    """Write the model in the GGUF file `source` into `directory` as Hugging Face files.

    Raises:
        CheckpointError: the file holds another architecture or tensors of another naming.
    """
    from gguf import GGUFReader
    from safetensors.numpy import save_file

    reader = GGUFReader(source)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    if fields.get("general.architecture") != "llama":
        raise CheckpointError(
            f"{source.name} holds architecture {fields.get('general.architecture')!r};"
            " expected 'llama'"
        )
    weights = _read_weights(reader, fields)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    tied = "lm_head.weight" not in weights
    _write_json(directory / "config.json", _config(fields, tied=tied))
    _write_json(directory / "generation_config.json", _special_ids(fields))
    _write_json(directory / "tokenizer.json", _tokenizer(fields))
    _write_json(directory / "tokenizer_config.json", _tokenizer_config(fields))


def to_half_split(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """Return query or key rows [heads x head size, in], each head's even rows before its odd ones.

    >>> to_half_split(np.arange(8).reshape(8, 1), num_heads=2).ravel().tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    pairs = rows.reshape(num_heads, rows.shape[0] // num_heads // 2, 2, rows.shape[1])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _read_weights(reader: Any, fields: Mapping[str, Any]) -> dict[str, np.ndarray]:
    from gguf.quants import dequantize

    weights: dict[str, np.ndarray] = {}
    for done, tensor in enumerate(reader.tensors, start=1):
        shape = tuple(int(size) for size in reversed(tensor.shape))
        rows = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        rows = rows.reshape(shape)
        if ".attn_q." in tensor.name:
            rows = to_half_split(rows, int(fields["llama.attention.head_count"]))
        elif ".attn_k." in tensor.name:
            rows = to_half_split(rows, int(fields["llama.attention.head_count_kv"]))
        weights[_weight_name(tensor.name)] = np.ascontiguousarray(rows)
        if done % 50 == 0:
            _progress.info("converted %d of %d tensors", done, len(reader.tensors))
    return weights


def _weight_name(name: str) -> str:
    """Return the Hugging Face name of a GGUF tensor."""
    parts = name.removesuffix(".weight").split(".")
    if len(parts) == 1 and parts[0] in _OUTER_NAMES:
        return _OUTER_NAMES[parts[0]]
    if len(parts) == 3 and parts[0] == "blk" and parts[2] in _BLOCK_NAMES:
        return f"model.layers.{parts[1]}.{_BLOCK_NAMES[parts[2]]}.weight"
    raise CheckpointError(f"the GGUF file holds {name!r}; expected the tensors of a Llama model")


def _config(fields: Mapping[str, Any], *, tied: bool) -> dict[str, object]:
    width = int(fields["llama.embedding_length"])
    num_heads = int(fields["llama.attention.head_count"])
    # stored as the nearest float32; six digits give back the number that was meant
    norm_eps = float(f"{fields['llama.attention.layer_norm_rms_epsilon']:.6g}")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        **_special_ids(fields),
        "head_dim": width // num_heads,
        "hidden_act": "silu",
        "hidden_size": width,
        "intermediate_size": int(fields["llama.feed_forward_length"]),
        "max_position_embeddings": int(fields["llama.context_length"]),
        "mlp_bias": False,
        "num_attention_heads": num_heads,
        "num_hidden_layers": int(fields["llama.block_count"]),
        "num_key_value_heads": int(fields["llama.attention.head_count_kv"]),
        "rms_norm_eps": norm_eps,
        "rope_theta": float(fields["llama.rope.freq_base"]),
        "tie_word_embeddings": tied,
        "torch_dtype": "float32",
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
    }


def _special_ids(fields: Mapping[str, Any]) -> dict[str, object]:
    stored = {"bos": "bos", "eos": "eos", "pad": "padding"}
    return {
        f"{role}_token_id": int(fields[f"tokenizer.ggml.{name}_token_id"])
        for role, name in stored.items()
    }


def _tokenizer(fields: Mapping[str, Any]) -> dict[str, object]:
    """Return `tokenizer.json`: byte-level BPE that takes digits one by one."""
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    special = [
        {"id": token_id, "content": tokens[token_id], **flags, "special": True}
        for token_id, kind in enumerate(fields["tokenizer.ggml.token_type"])
        if kind == _CONTROL_TOKEN
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [_DIGITS_ALONE, _BYTE_LEVEL]},
        "post_processor": None,
        "decoder": _BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: token_id for token_id, token in enumerate(tokens)},
            "merges": list(fields["tokenizer.ggml.merges"]),
        },
    }


def _tokenizer_config(fields: Mapping[str, Any]) -> dict[str, object]:
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    roles = {role: tokens[token_id] for role, token_id in _special_tokens(fields).items()}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **roles,
        "chat_template": fields["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": int(fields["llama.context_length"]),
    }


def _special_tokens(fields: Mapping[str, Any]) -> dict[str, int]:
    stored = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    return {
        f"{role}_token": int(fields[f"tokenizer.ggml.{name}_token_id"])
        for role, name in stored.items()
    }


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
