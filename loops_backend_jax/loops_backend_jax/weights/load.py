"""Base weights from safetensors files into the parameter tree of a model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from loops_backend_jax.config import BackendSettings, DtypeName, ModelConfig, load_model_config
from loops_backend_jax.lora.adapter import Params
from loops_backend_jax.lora.tree import put_array
from loops_backend_jax.models import make_model
from loops_backend_jax.models.decoder import Decoder
from loops_backend_jax.weights import TABLES
from loops_backend_jax.weights.table import WeightRow
from loops_core.errors import CheckpointError, NotFoundError

SINGLE_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
STORED_DTYPES = ("F32", "BF16", "F16")
DERIVED_SUFFIXES = (".rotary_emb.inv_freq",)  # in old files; follows from the configuration


def load_params(model_dir: Path, config: ModelConfig, *, dtype: DtypeName = "float32") -> Params:
    """Return the frozen parameters of the model in `model_dir`.

    Args:
        model_dir: holds `model.safetensors`, or shards and `model.safetensors.index.json`.
        config: the shape of the model, from the same directory.
        dtype: in which to hold the weights; files may be float32, bfloat16 or float16.

    Returns:
        A tree of arrays as the family's module reads it, layers stacked on the first axis.

    Raises:
        NotFoundError: there are no safetensors files.
        CheckpointError: tensors are missing, unexpected, or of another shape or dtype.
    """
    table = TABLES[config.family](config)
    shapes = param_shapes(config)
    with ExitStack() as stack:
        tensors = _TensorFiles(_tensor_files(model_dir), stack)
        _check_names(tensors, table, config)
        tree: Params = {}
        for row in table:
            array = _load_row(tensors, row, config.num_layers, jnp.dtype(dtype))
            if array.shape != shapes[row.path]:
                raise CheckpointError(
                    f"{row.pattern} makes {array.shape}; config.json asks for {shapes[row.path]};"
                    " the two files are not of one model"
                )
            put_array(tree, row.path, jnp.asarray(array))
        _check_tied(tensors, config)
    return tree


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """A frozen model: what trainers and samplers of one base model share.

    Attributes:
        config: its shape.
        settings: how it is computed.
        model: its module, which holds no weights.
        params: its weights.
    """

    config: ModelConfig
    settings: BackendSettings
    model: Decoder
    params: Params


def load_base_model(model_dir: Path, settings: BackendSettings) -> BaseModel:
    """Return the model in `model_dir`; raises as `load_model_config` and `load_params` do."""
    config = load_model_config(model_dir)
    return BaseModel(
        config=config,
        settings=settings,
        model=make_model(config, settings),
        params=load_params(model_dir, config, dtype=settings.dtype),
    )


def param_shapes(config: ModelConfig) -> Mapping[tuple[str, ...], tuple[int, ...]]:
    """Return the shape of every array of the parameter tree, by path."""
    model, ids = make_model(config, BackendSettings()), jnp.zeros((1, 1), jnp.int32)
    tree = jax.eval_shape(model.init, jax.random.key(0), ids, ids, ids)["params"]
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {tuple(entry.key for entry in path): leaf.shape for path, leaf in leaves}


def _tensor_files(model_dir: Path) -> Mapping[str, Path] | Path:
    """Return the one file, or the index of shards: tensor name to file."""
    if (model_dir / SINGLE_FILE).is_file():
        return model_dir / SINGLE_FILE
    index = model_dir / INDEX_FILE
    if not index.is_file():
        raise NotFoundError(
            f"base_model: neither {SINGLE_FILE} nor {INDEX_FILE} in {str(model_dir)!r};"
            " expected weights as safetensors; convert the model",
            kind="model",
            name=str(model_dir),
            field="base_model",
        )
    try:
        shards = {str(k): str(v) for k, v in json.loads(index.read_text())["weight_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} has no readable weight_map: {error}") from error
    outside = sorted(f for f in set(shards.values()) if Path(f).name != f)
    missing = sorted(f for f in set(shards.values()) if not (model_dir / f).is_file())
    if outside or missing:
        raise CheckpointError(f"{index} names files that are not beside it: {outside or missing}")
    return {name: model_dir / file for name, file in shards.items()}


@final
class _TensorFiles:
    """Opened safetensors files, read by tensor name."""

    def __init__(self, files: Mapping[str, Path] | Path, stack: ExitStack) -> None:
        paths = [files] if isinstance(files, Path) else sorted(set(files.values()))
        self._holder: dict[str, Any] = {}
        for path in paths:
            try:
                opened = stack.enter_context(safe_open(path, framework="flax"))
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error
            for name in opened.keys():  # noqa: SIM118 - not a dict
                if name in self._holder:
                    raise CheckpointError(f"{path}: tensor {name!r} stands in another file too")
                self._holder[name] = opened
        self.names = frozenset(self._holder)
        odd = set[str]() if isinstance(files, Path) else self.names ^ files.keys()
        if odd:
            raise CheckpointError(
                f"{INDEX_FILE} and its shards disagree about {_listed(sorted(odd))}"
            )

    def read(self, name: str) -> np.ndarray:
        stored = self._holder[name].get_slice(name).get_dtype()
        if stored not in STORED_DTYPES:
            raise CheckpointError(
                f"tensor {name!r} is stored as {stored}; expected one of {', '.join(STORED_DTYPES)}"
            )
        return np.asarray(self._holder[name].get_tensor(name))


def _load_row(
    tensors: _TensorFiles, row: WeightRow, num_layers: int, dtype: jnp.dtype
) -> np.ndarray:
    def one(name: str) -> np.ndarray:
        array = tensors.read(name)
        return (array.T if row.transform == "transpose" else array).astype(dtype)

    if "{layer}" not in row.pattern:
        return np.ascontiguousarray(one(row.pattern))
    layers = [one(row.pattern.format(layer=layer)) for layer in range(num_layers)]
    shapes = {array.shape for array in layers}
    if len(shapes) > 1:
        raise CheckpointError(f"{row.pattern} has several shapes: {sorted(shapes)}; expected one")
    return np.stack(layers)


def _check_names(tensors: _TensorFiles, table: tuple[WeightRow, ...], config: ModelConfig) -> None:
    expected = {
        row.pattern.format(layer=layer)
        for row in table
        for layer in (range(config.num_layers) if "{layer}" in row.pattern else (0,))
    }
    allowed = {"lm_head.weight"} if config.tied_embeddings else set[str]()
    missing = sorted(expected - tensors.names)
    unexpected = sorted(
        name for name in tensors.names - expected - allowed if not name.endswith(DERIVED_SUFFIXES)
    )
    if missing or unexpected:
        raise CheckpointError(
            f"the weights do not fit a {config.family} model of {config.num_layers} layers:"
            f" missing {_listed(missing)}; unexpected {_listed(unexpected)}"
        )


def _check_tied(tensors: _TensorFiles, config: ModelConfig) -> None:
    """Raise if the files bring an unembedding of its own for a model that says it has none."""
    if config.tied_embeddings and "lm_head.weight" in tensors.names:
        own, tied = tensors.read("lm_head.weight"), tensors.read("model.embed_tokens.weight")
        if own.shape != tied.shape or not np.array_equal(own, tied):
            raise CheckpointError(
                "lm_head.weight differs from model.embed_tokens.weight, but config.json says"
                " tie_word_embeddings; set it to false if the files are right"
            )


def _listed(names: list[str]) -> str:
    """Return the first few names, and how many more there are."""
    shown = ", ".join(names[:8]) or "none"
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
