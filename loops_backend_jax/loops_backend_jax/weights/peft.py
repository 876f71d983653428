"""Adapters in the PEFT format: `adapter_config.json` and `adapter_model.safetensors`.

Tensors are named `base_model.model.<module>.lora_A.weight`, [rank, in], and `.lora_B.weight`,
[out, rank]; `<module>` is the Hugging Face name of the changed layer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from loops_backend_jax.config import ModelConfig
from loops_backend_jax.lora.adapter import (
    ALL_TARGETS,
    AdapterSpec,
    Factors,
    Site,
    adapter_sites,
    make_adapter_spec,
)
from loops_backend_jax.lora.tree import get_array, put_array
from loops_core.errors import CheckpointError, UsageError

CONFIG_FILE, TENSOR_FILE = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
SIDES = (("lora_a", "lora_A"), ("lora_b", "lora_B"))
PLAIN = {  # what would change the arithmetic, with the values that say it does not
    "bias": ("none",),
    "use_rslora": (False, None),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "lora_bias": (False, None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "modules_to_save": ([], None),
    "layers_to_transform": ([], None),
}


def is_peft_dir(path: Path) -> bool:
    """Return whether `path` looks like a PEFT adapter's directory."""
    return (path / CONFIG_FILE).is_file()


def save_peft(
    path: Path, config: ModelConfig, spec: AdapterSpec, factors: Factors, *, base_model: str
) -> None:
    """Write an adapter into the directory `path`, float32, without rounding.

    Args:
        path: an existing directory; its two files are written over.
        config: the base model's shape.
        spec: the adapter's rank, alpha and targets.
        factors: its arrays.
        base_model: the base model's name, for `base_model_name_or_path`.
    """
    tensors: dict[str, np.ndarray] = {}
    for site in adapter_sites(config, spec.targets):
        for key, side in SIDES:
            stacked = np.asarray(get_array(factors, (*site.path, key)))
            layers = stacked if site.num_layers else stacked[None]
            for module, array in zip(site.module_names(), layers, strict=True):
                tensors[f"{PREFIX}{module}.{side}.weight"] = np.ascontiguousarray(array.T)
    save_file(tensors, path / TENSOR_FILE, metadata={"format": "pt"})
    alpha = int(spec.alpha) if spec.alpha.is_integer() else spec.alpha
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": spec.rank,
        "lora_alpha": alpha,
        "target_modules": list(spec.targets),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "inference_mode": True,
    }
    (path / CONFIG_FILE).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def load_peft(path: Path, config: ModelConfig) -> tuple[AdapterSpec, Factors]:
    """Return an adapter read from a PEFT directory: its spec as found there, its factors float32.

    Raises:
        CheckpointError: files are missing or damaged, the adapter is no plain LoRA, or it does not
            fit the base model.
    """
    rank, alpha, named = _read_config(path / CONFIG_FILE)
    tensors = _read_tensors(path / TENSOR_FILE)
    targets = tuple(t for t in ALL_TARGETS if any(f".{t}.lora_" in name for name in tensors))
    if named is not None and set(named) != set(targets):
        raise CheckpointError(
            f"{path}: target_modules are {sorted(named)}, but there are tensors for"
            f" {sorted(targets)}; expected the same, out of {', '.join(ALL_TARGETS)}"
        )
    try:
        spec = make_adapter_spec(rank=rank, alpha=alpha, targets=targets)
    except UsageError as error:
        raise CheckpointError(f"{path / CONFIG_FILE}: {error}") from error
    sites = adapter_sites(config, targets)
    expected = {
        f"{PREFIX}{m}.{s}.weight" for site in sites for m in site.module_names() for _, s in SIDES
    }
    if odd := sorted(expected ^ tensors.keys()):
        raise CheckpointError(
            f"{path / TENSOR_FILE} does not fit a model of {config.num_layers} layers:"
            f" {odd[0]!r} is {'missing' if odd[0] in expected else 'unexpected'},"
            f" and {len(odd) - 1} more are"
        )
    factors: Factors = {}
    for site in sites:
        for key, array in _site_factors(path, tensors, site, rank).items():
            put_array(factors, (*site.path, key), array)
    return spec, factors


def _read_config(path: Path) -> tuple[int, float, tuple[str, ...] | None]:
    """Return rank, alpha, and the target modules if they are listed."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(raw, dict) or raw.get("peft_type") != "LORA":
        raise CheckpointError(f"{path}: expected a JSON object with peft_type LORA")
    for name, plain in PLAIN.items():
        if name in raw and raw[name] not in plain:
            raise CheckpointError(
                f"{path}: {name} is {raw[name]!r}; expected {plain[0]!r}: only plain LoRA is read"
            )
    rank, alpha, named = raw.get("r"), raw.get("lora_alpha"), raw.get("target_modules")
    if isinstance(rank, bool) or not isinstance(rank, int):
        raise CheckpointError(f"{path}: r is {rank!r}; expected an integer")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise CheckpointError(f"{path}: lora_alpha is {alpha!r}; expected a number")
    if isinstance(named, list):  # a string is a pattern: then the tensors say what it matched
        return rank, float(alpha), tuple(str(name).rpartition(".")[2] for name in named)
    return rank, float(alpha), None


def _read_tensors(path: Path) -> Mapping[str, np.ndarray]:
    try:
        with safe_open(path, framework="flax") as file:
            names: list[str] = list(file.keys())
            return {name: np.asarray(file.get_tensor(name)) for name in names}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error


def _site_factors(
    path: Path, tensors: Mapping[str, np.ndarray], site: Site, rank: int
) -> Mapping[str, jax.Array]:
    shapes = {"lora_a": (rank, site.fan_in), "lora_b": (site.fan_out, rank)}
    factors: dict[str, jax.Array] = {}
    for key, side in SIDES:
        arrays: list[np.ndarray] = []
        for module in site.module_names():
            array = tensors[f"{PREFIX}{module}.{side}.weight"]
            if array.shape != shapes[key] or array.dtype.name not in (
                "float32",
                "bfloat16",
                "float16",
            ):
                raise CheckpointError(
                    f"{path / TENSOR_FILE}: {side} of {module} is {array.dtype} {array.shape};"
                    f" expected floats {shapes[key]}: another base model, or another rank"
                )
            if not np.isfinite(array.astype(np.float32)).all():
                raise CheckpointError(f"{path / TENSOR_FILE}: {side} of {module} is not finite")
            arrays.append(array.T.astype(np.float32))
        factors[key] = jnp.asarray(np.stack(arrays) if site.num_layers else arrays[0])
    return factors
