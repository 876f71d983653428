"""A trainer's complete state as two files, bit for bit: `state.json` and `state.safetensors`.

The JSON holds what is not an array, the shape of the base model, and the state's digest, by which
damage is found. Tensors are named by tree and path, such as
`first_moment/layers/mlp/up_proj/lora_a`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from loops_backend_jax.config import ModelConfig
from loops_backend_jax.lora.adapter import AdapterSpec, Factors, adapter_sites
from loops_backend_jax.lora.tree import iter_arrays, put_array
from loops_backend_jax.train.state import TrainState
from loops_core.errors import CheckpointError

STATE_FILE, TENSOR_FILE = "state.json", "state.safetensors"
FORMAT = "loops-jax-train-state-1"
TREES = ("factors", "first_moment", "second_moment", "gradients")


def is_state_dir(path: Path) -> bool:
    """Return whether `path` looks like a saved state."""
    return (path / STATE_FILE).is_file()


def save_train_state(path: Path, state: TrainState, config: ModelConfig) -> None:
    """Write the state into the directory `path`, without rounding."""
    arrays = _state_arrays(state)
    fields = {"format": FORMAT, "model": _model_fields(config), "digest": state_digest(state)}
    save_file(arrays, path / TENSOR_FILE)
    text = json.dumps(fields | _state_fields(state), indent=2)
    (path / STATE_FILE).write_text(text + "\n", encoding="utf-8")


def load_train_state(path: Path, config: ModelConfig) -> TrainState:
    """Return the state that was saved in `path`, with the same digest.

    Raises:
        CheckpointError: the files are damaged, or of another format or base model.
    """
    fields = _read_fields(path / STATE_FILE, config)
    try:
        arrays = load_file(path / TENSOR_FILE)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path / TENSOR_FILE} is not whole: {error}") from error
    try:
        spec = AdapterSpec(
            rank=fields["rank"], alpha=fields["alpha"], targets=tuple(fields["targets"])
        )
        trees = {tree: _tree(arrays, tree, config, spec) for tree in TREES[:3]}
        pending = fields["normalised"] is not None
        state = TrainState(
            spec=spec,
            **trees,
            step=fields["step"],
            gradients=_tree(arrays, "gradients", config, spec) if pending else None,
            num_active=fields["num_active"],
            normalised=fields["normalised"],
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is no whole saved state: {error} is missing") from error
    if state_digest(state) != fields["digest"]:
        raise CheckpointError(f"{path}: the arrays are not those that were saved; use another save")
    return state


def state_digest(state: TrainState) -> str:
    """Return the SHA-256 of all that the state holds, in hexadecimal."""
    digest = hashlib.sha256(json.dumps(_state_fields(state), sort_keys=True).encode())
    for name, array in sorted(_state_arrays(state).items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _state_fields(state: TrainState) -> dict[str, object]:
    return {
        "rank": state.spec.rank,
        "alpha": state.spec.alpha,
        "targets": list(state.spec.targets),
        "step": state.step,
        "num_active": state.num_active,
        "normalised": state.normalised,
    }


def _state_arrays(state: TrainState) -> dict[str, np.ndarray]:
    return {
        "/".join((tree, *path)): np.ascontiguousarray(array)
        for tree in TREES
        for path, array in iter_arrays(getattr(state, tree) or {})
    }


def _model_fields(config: ModelConfig) -> dict[str, Any]:
    return dataclasses.asdict(config)


def _read_fields(path: Path, config: ModelConfig) -> Mapping[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise CheckpointError(f"{path}: expected a state saved in format {FORMAT}")
    saved, own = fields.get("model"), _model_fields(config)
    if saved != own:
        odd = [k for k in own if not isinstance(saved, dict) or saved.get(k) != own[k]]
        raise CheckpointError(
            f"{path}: saved on another base model: {', '.join(odd)} differ; load it on its own"
        )
    return fields


def _tree(
    arrays: Mapping[str, np.ndarray], name: str, config: ModelConfig, spec: AdapterSpec
) -> Factors:
    tree: Factors = {}
    for site in adapter_sites(config, spec.targets):
        for side in ("lora_a", "lora_b"):
            array = arrays["/".join((name, *site.path, side))]
            put_array(tree, (*site.path, side), jnp.asarray(array))
    return tree
