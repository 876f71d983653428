"""The built-in model `loops-tiny`: a Llama of 853,120 weights, made on the spot from a seed.

Nobody has trained it. Its frozen layers are random, its tokenizer has 512 entries learned from the
instructions of `loops quickstart`; a LoRA adapter on the linear layers is enough to make it answer
them, which takes seconds on a CPU and needs no network. It is made anew only if its recipe changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from loops_backend_jax.resolvers.cache import make_once

if TYPE_CHECKING:
    import numpy as np

NAME: Final = "loops-tiny"
FILES: Final = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")

VOCAB_SIZE: Final = 512
MODEL_WIDTH: Final = 128
FF_WIDTH: Final = 384
NUM_LAYERS: Final = 4
NUM_HEADS: Final = 4
NUM_KV_HEADS: Final = 2
HEAD_SIZE: Final = MODEL_WIDTH // NUM_HEADS
MAX_POSITIONS: Final = 512
SEED: Final = 20_250_301

EMBEDDING_STD: Final = 0.1
"""The unembedding is the embedding, read after a norm of length sqrt(128): at 0.1 the untrained
logits spread by about 1 (a first loss near ln 512 = 6.2), and a trained one can still reach 12. At
0.06 the loss after 300 steps was ten times higher."""

SPECIAL_TOKENS: Final = ("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>")
CHAT_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def resolve_builtin(base_model: str, cache_root: Path) -> Path | None:
    """Return the directory of the built-in model, made at first use; None for any other name."""
    if base_model != NAME:
        return None
    target = cache_root / "builtin" / f"{NAME}-{_recipe_digest()}"
    return make_once(target, FILES, write_builtin_model)


def write_builtin_model(directory: Path) -> None:
    """Write the built-in model's files into `directory`: the same bytes on every machine."""
    from safetensors.numpy import save_file

    _write_json(directory / "config.json", _config())
    _write_json(directory / "tokenizer_config.json", _tokenizer_config())
    (directory / "tokenizer.json").write_bytes(_tokenizer_bytes())
    save_file(make_weights(), directory / "model.safetensors", metadata={"format": "pt"})


def make_weights(seed: int = SEED) -> dict[str, np.ndarray]:
    """Return the weights by name, float32: norms of ones, the rest uniform around zero.

    Linear layers [out, in] have variance 1 / in, so activations keep their size through the depth.
    Only the raw bits of the generator are used, because NumPy promises to keep those.
    """
    import numpy as np

    generator = np.random.PCG64(seed)
    weights: dict[str, np.ndarray] = {}
    for name, shape in _shapes():
        if len(shape) == 1:
            weights[name] = np.ones(shape, np.float32)
            continue
        std = EMBEDDING_STD if name == "model.embed_tokens.weight" else shape[1] ** -0.5
        bits = np.asarray(generator.random_raw(shape[0] * shape[1]), np.uint64) >> np.uint64(40)
        unit = bits.astype(np.float32) * np.float32(2.0**-23) - np.float32(1.0)
        weights[name] = unit.reshape(shape) * np.float32(std * 3.0**0.5)
    return weights


def _shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield every weight's name and shape in the order in which they are drawn."""
    yield "model.embed_tokens.weight", (VOCAB_SIZE, MODEL_WIDTH)
    for layer in range(NUM_LAYERS):
        block = f"model.layers.{layer}"
        yield f"{block}.input_layernorm.weight", (MODEL_WIDTH,)
        yield f"{block}.self_attn.q_proj.weight", (NUM_HEADS * HEAD_SIZE, MODEL_WIDTH)
        yield f"{block}.self_attn.k_proj.weight", (NUM_KV_HEADS * HEAD_SIZE, MODEL_WIDTH)
        yield f"{block}.self_attn.v_proj.weight", (NUM_KV_HEADS * HEAD_SIZE, MODEL_WIDTH)
        yield f"{block}.self_attn.o_proj.weight", (MODEL_WIDTH, NUM_HEADS * HEAD_SIZE)
        yield f"{block}.post_attention_layernorm.weight", (MODEL_WIDTH,)
        yield f"{block}.mlp.gate_proj.weight", (FF_WIDTH, MODEL_WIDTH)
        yield f"{block}.mlp.up_proj.weight", (FF_WIDTH, MODEL_WIDTH)
        yield f"{block}.mlp.down_proj.weight", (MODEL_WIDTH, FF_WIDTH)
    yield "model.norm.weight", (MODEL_WIDTH,)


def _config() -> Mapping[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "bos_token_id": None,
        "eos_token_id": SPECIAL_TOKENS.index("<|end|>"),
        "pad_token_id": SPECIAL_TOKENS.index("<|pad|>"),
        "head_dim": HEAD_SIZE,
        "hidden_act": "silu",
        "hidden_size": MODEL_WIDTH,
        "intermediate_size": FF_WIDTH,
        "max_position_embeddings": MAX_POSITIONS,
        "mlp_bias": False,
        "num_attention_heads": NUM_HEADS,
        "num_hidden_layers": NUM_LAYERS,
        "num_key_value_heads": NUM_KV_HEADS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "vocab_size": VOCAB_SIZE,
    }


def _tokenizer_config() -> Mapping[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_POSITIONS,
        "eos_token": "<|end|>",
        "pad_token": "<|pad|>",
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def _tokenizer_bytes() -> bytes:
    return (resources.files("loops_backend_jax.resolvers") / "tiny_tokenizer.json").read_bytes()


def _recipe_digest() -> str:
    """Return twelve hex digits of all that the model is made from."""
    recipe = (SEED, EMBEDDING_STD, tuple(_shapes()), _config(), _tokenizer_config())
    return hashlib.sha256(repr(recipe).encode() + _tokenizer_bytes()).hexdigest()[:12]


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
