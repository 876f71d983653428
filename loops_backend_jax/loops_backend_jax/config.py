"""What a model is made of, read from its `config.json`, and the settings of the backend.

`ModelConfig` is the one description of a model's shape that the rest of the backend reads.
`load_model_config` makes it; it takes from the file what it knows and refuses by name what it does
not, so that a model which would be computed wrongly is never loaded.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, final, get_args

from loops_core.errors import CheckpointError, NotFoundError, UnsupportedError, UsageError

RopeKind = Literal["default", "linear", "llama3"]
DtypeName = Literal["float32", "bfloat16"]

ARCHITECTURES: Mapping[str, str] = {"LlamaForCausalLM": "llama", "Qwen3ForCausalLM": "qwen3"}
ROPE_KINDS: tuple[RopeKind, ...] = ("default", "linear", "llama3")
ACTIVATIONS: tuple[str, ...] = ("silu", "swish")


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RopeConfig:
    """How positions become rotation angles.

    Attributes:
        kind: `default`, `linear` (all frequencies divided by `factor`) or `llama3` (low ones only).
        theta: the base of the geometric row of wavelengths.
        factor: by how much frequencies are divided.
        low_freq_factor, high_freq_factor: between them `llama3` blends old and new frequencies.
        original_max_positions: the context that a `llama3` model was first trained with.
    """

    kind: RopeKind = "default"
    theta: float = 10000.0
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The shape of one model; hashable, so that compiled functions can be keyed by it.

    Attributes:
        family: which forward pass and weight table serve it, such as `llama`.
        vocab_size: number of token ids.
        model_width: width of the residual stream.
        ff_width: inner width of the feed-forward part.
        num_layers: number of blocks.
        num_heads, num_kv_heads: query heads, and key-value heads that they share.
        head_size: width of one head.
        max_positions: longest sequence that the model was made for.
        norm_eps: added to the mean square in every RMS norm.
        rope: how positions become angles.
        tied_embeddings: True where the unembedding is the embedding itself.
        attention_bias, mlp_bias: whether these linear layers carry a bias.
    """

    family: str
    vocab_size: int
    model_width: int
    ff_width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    max_positions: int
    norm_eps: float = 1e-6
    rope: RopeConfig = RopeConfig()
    tied_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BackendSettings:
    """How the backend computes; the same for every model it holds.

    Attributes:
        dtype: of the frozen weights and of activations; adapter, norms and softmax are float32.
        max_batch_tokens: rows x row length of one compiled pass, padding included; more data takes
            more passes. One row longer than this still runs, alone.
        max_logits_bytes: bound of the one chunk of float32 logits alive at a time.
        remat: recompute whole blocks in the backward pass: about a fifth more time for a sixth of
            the memory.
        decode_steps: tokens a sequence gains before the host looks at them: at stop strings, at
            whose turn it is, at what was cancelled.
        max_sample_rows: most sequences of one request that are decoded side by side; a power of
            two, others are rounded down to one.
        max_prompt_piece: most prompt tokens that are read at once; a power of two from 32, others
            are rounded down to one.
        max_cache_bytes: bound of the key-value caches of all running requests but the oldest, and
            of those of one request, unless one sequence alone takes more.
    """

    dtype: DtypeName = "float32"
    max_batch_tokens: int = 2048
    max_logits_bytes: int = 2**26
    remat: bool = False
    decode_steps: int = 16
    max_sample_rows: int = 16
    max_prompt_piece: int = 512
    max_cache_bytes: int = 2**30


def make_settings(options: Mapping[str, str]) -> BackendSettings:
    """Return the settings that the query part of a backend's URL asks for.

    Args:
        options: fields of `BackendSettings` by name, as text; `true` or `false` for a flag.

    Raises:
        UsageError: an unknown option, or a value that it cannot have.
    """
    known = {field.name: field.default for field in dataclasses.fields(BackendSettings)}
    chosen: dict[str, Any] = {}
    for name, text in options.items():
        value, expected = _read_option(name, text, known)
        if value is None:
            raise UsageError(
                f"{name}={text} is no option of this backend; expected {expected}", field=name
            )
        chosen[name] = value
    return BackendSettings(**chosen)


def _read_option(
    name: str, text: str, known: Mapping[str, object]
) -> tuple[bool | int | str | None, str]:
    """Return an option's value, None for a wrong one, and what is expected."""
    if name not in known:
        return None, f"one of {', '.join(known)}"
    if isinstance(known[name], bool):
        return {"true": True, "false": False}.get(text), "true or false"
    if isinstance(known[name], int):
        number = int(text) if text.isascii() and text.isdecimal() else 0
        return number or None, "a number from 1"
    dtypes = get_args(DtypeName)
    return text if text in dtypes else None, " or ".join(dtypes)


def load_model_config(model_dir: Path) -> ModelConfig:
    """Return the shape of the model in `model_dir`.

    Args:
        model_dir: a directory with a `config.json` as Hugging Face libraries write it.

    Raises:
        NotFoundError: there is no `config.json`.
        CheckpointError: the file is damaged, or lacks a field without a default.
        UnsupportedError: the model needs something that this backend does not compute.
    """
    path = model_dir / "config.json"
    if not path.is_file():
        raise NotFoundError(
            f"base_model: no config.json in {str(model_dir)!r}; expected a directory with"
            " config.json and *.safetensors; check the path",
            kind="model",
            name=str(model_dir),
            field="base_model",
        )
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}; copy the model again") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} holds a {type(raw).__name__}; expected a JSON object")
    return make_model_config(raw)


def make_model_config(raw: Mapping[str, object]) -> ModelConfig:
    """Return the model's shape from the fields of `config.json`; raises as `load_model_config`."""
    fields = _Fields(raw)
    family = _family(fields)
    _check_supported(fields, family)
    num_heads = fields.integer("num_attention_heads")
    model_width = fields.integer("hidden_size")
    default_kv_heads, default_head_size = num_heads, model_width // num_heads
    if family == "qwen3":  # the defaults of its published configuration class
        default_kv_heads, default_head_size = 32, 128
    config = ModelConfig(
        family=family,
        vocab_size=fields.integer("vocab_size"),
        model_width=model_width,
        ff_width=fields.integer("intermediate_size"),
        num_layers=fields.integer("num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=fields.integer("num_key_value_heads", default_kv_heads),
        head_size=fields.integer("head_dim", default_head_size),
        max_positions=fields.integer("max_position_embeddings"),
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        rope=_rope(fields),
        tied_embeddings=fields.flag("tie_word_embeddings"),
        attention_bias=fields.flag("attention_bias"),
        mlp_bias=fields.flag("mlp_bias"),
    )
    if config.num_heads % config.num_kv_heads or config.head_size % 2:
        raise CheckpointError(
            f"config.json: {config.num_heads} heads of {config.head_size} cannot share"
            f" {config.num_kv_heads} key-value heads; expected a multiple, and an even head_dim"
        )
    return config


def _family(fields: _Fields) -> str:
    named = fields.raw.get("architectures") or []
    known = {family: name for name, family in ARCHITECTURES.items()}
    if not named:  # some files give the type only
        named = [known.get(str(fields.raw.get("model_type")), fields.raw.get("model_type"))]
    if not isinstance(named, list) or len(named) != 1 or str(named[0]) not in ARCHITECTURES:
        raise _unsupported("architectures", named, tuple(ARCHITECTURES))
    return ARCHITECTURES[str(named[0])]


def _check_supported(fields: _Fields, family: str) -> None:
    """Raise for every field that would change the forward pass in a way not computed here."""
    activation = fields.raw.get("hidden_act", "silu")
    if activation not in ACTIVATIONS:
        raise _unsupported("hidden_act", activation, ACTIVATIONS)
    if (
        fields.raw.get("sliding_window") is not None
        and fields.raw.get("use_sliding_window") is not False
    ):
        raise _unsupported("sliding_window", fields.raw["sliding_window"], ("null",))
    kinds = fields.raw.get("layer_types") or ["full_attention"]
    if not isinstance(kinds, list) or set(map(str, kinds)) != {"full_attention"}:
        raise _unsupported("layer_types", kinds, ("full_attention",))
    if fields.raw.get("quantization_config") is not None:
        raise _unsupported("quantization_config", fields.raw["quantization_config"], ("null",))
    if fields.number("attention_dropout", 0.0) != 0.0:
        raise _unsupported("attention_dropout", fields.raw["attention_dropout"], ("0.0",))
    if family == "qwen3" and fields.flag("mlp_bias"):
        raise _unsupported("mlp_bias", True, ("false",))


def _rope(fields: _Fields) -> RopeConfig:
    """Read `rope_parameters` (newer files), or `rope_theta` and `rope_scaling` (older ones)."""
    newer = fields.raw.get("rope_parameters")
    nested = newer if newer is not None else fields.raw.get("rope_scaling")
    if nested is not None and not isinstance(nested, Mapping):
        raise CheckpointError(
            f"config.json: rope parameters are {nested!r}; expected an object or null"
        )
    rope = _Fields(nested or {})
    theta = rope.number("rope_theta", fields.number("rope_theta", 10000.0))
    kind = rope.raw.get("rope_type", rope.raw.get("type", "default"))
    for supported in ROPE_KINDS:
        if kind == supported:
            break
    else:
        raise _unsupported("rope_type", kind, ROPE_KINDS)
    if rope.number("partial_rotary_factor", fields.number("partial_rotary_factor", 1.0)) != 1.0:
        raise _unsupported("partial_rotary_factor", "a part of the head", ("1.0",))
    if supported == "default":
        return RopeConfig(theta=theta)
    factor = rope.number("factor")
    if supported == "linear":
        return RopeConfig(kind="linear", theta=theta, factor=factor)
    return RopeConfig(
        kind="llama3",
        theta=theta,
        factor=factor,
        low_freq_factor=rope.number("low_freq_factor"),
        high_freq_factor=rope.number("high_freq_factor"),
        original_max_positions=rope.integer("original_max_position_embeddings"),
    )


def _unsupported(field: str, value: object, supported: tuple[str, ...]) -> UnsupportedError:
    return UnsupportedError(
        f"config.json: {field} is {value!r}; supported: {', '.join(supported)};"
        " choose another model",
        field="base_model",
    )


@final
@dataclasses.dataclass(frozen=True, slots=True)
class _Fields:
    """Typed reading of a JSON object: a value of the wrong type is named, never converted."""

    raw: Mapping[str, object]

    def integer(self, name: str, default: int | None = None) -> int:
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise CheckpointError(f"config.json: {name} is {value!r}; expected an integer from 1")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CheckpointError(f"config.json: {name} is {value!r}; expected a number")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self._get(name, False)
        if not isinstance(value, bool):
            raise CheckpointError(f"config.json: {name} is {value!r}; expected true or false")
        return value

    def _get(self, name: str, default: object) -> object:
        value = self.raw.get(name)
        if value is None:
            value = default
        if value is None:
            raise CheckpointError(f"config.json: {name} is missing; expected a number")
        return value
