"""States and adapters as directories: JSON beside NumPy arrays, never pickle.

A saved state is `state.json` and `state.npz`. An adapter is laid out as PEFT lays it out, with
`adapter_config.json`, but its weights are in `adapter_model.npz` in place of safetensors, under
PEFT's names and orientation: `base_model.model.<place>.lora_A.weight` [rank, in], `lora_B` [out,
rank]. The same state gives the same bytes.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from loops_core.errors import CheckpointError
from loops_mock.config import ModelConfig
from loops_mock.model import Adapter, Factors
from loops_mock.state import Pending, TrainerState

MAX_RANK: Final = 256
"""The largest rank of an adapter."""

_FORMAT: Final = "loops-mock-state-2"
_GROUPS: Final = ("adapter", "first", "second")
"""What a state holds for every factor."""

_REFUSED: Final = ("alpha_pattern", "rank_pattern", "use_dora", "use_rslora")
"""Settings of PEFT that change what an adapter computes, and are not offered."""

_UNREADABLE: Final = (
    OSError,
    ValueError,
    EOFError,
    TypeError,
    RuntimeError,
    BadZipFile,
    zlib.error,
)
"""What NumPy and zipfile raise at files that are no archive of arrays."""

Header = dict[str, Any]
Expected = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


def save_state(state: TrainerState, path: Path) -> None:
    """Write the complete state into a directory."""
    header = {"format": _FORMAT, "digest": state.digest(), **state.header()}
    _save_arrays(path / "state.npz", state.arrays())
    _save_json(path / "state.json", header)


def load_state(path: Path, config: ModelConfig) -> TrainerState:
    """Return the state that `save_state` wrote, bit for bit.

    Raises:
        CheckpointError: the files are missing, damaged, foreign, or of a model of other sizes.
    """
    header = _load_json(path / "state.json")
    if header.get("format") != _FORMAT:
        raise _damaged(path / "state.json", f"format is {header.get('format')!r}, not {_FORMAT!r}")
    try:
        state = _read_state(path, header, config)
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(path / "state.json", f"a field is missing or wrong: {error!r}") from error
    if state.digest() != header["digest"]:
        raise _damaged(path, "the contents do not have the digest that they were saved with")
    return state


def export_adapter(adapter: Adapter, base_model: str, path: Path) -> None:
    """Write the adapter in PEFT's layout into a directory, float32, without rounding."""
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "target_modules": list(adapter.factors),
        "lora_dropout": 0.0,
        "bias": "none",
    }
    weights: dict[str, NDArray[Any]] = {}
    for site, (lora_a, lora_b) in adapter.factors.items():
        weights[_peft_name(site, "A")] = np.ascontiguousarray(lora_a.T)
        weights[_peft_name(site, "B")] = np.ascontiguousarray(lora_b.T)
    _save_arrays(path / "adapter_model.npz", weights)
    _save_json(path / "adapter_config.json", config)


def load_adapter(path: Path, config: ModelConfig) -> Adapter:
    """Return the adapter that `export_adapter` wrote.

    Raises:
        CheckpointError: the files are missing, damaged, foreign, or of a model of other sizes.
    """
    where = path / "adapter_config.json"
    header = _load_json(where)
    if header.get("peft_type") != "LORA" or header.get("bias", "none") != "none":
        raise _damaged(where, "expected peft_type LORA and bias none")
    for name in _REFUSED:
        if header.get(name):
            raise _damaged(
                where, f"{name} is {header[name]!r}, which the mock backend does not offer"
            )
    rank, alpha, sites = _check_adapter(
        where, header.get("r"), header.get("lora_alpha"), header.get("target_modules"), config
    )
    expected: Expected = {}
    for site in sites:
        fan_in, fan_out = config.sites()[site]
        expected[_peft_name(site, "A")] = (np.dtype(np.float32), (rank, fan_in))
        expected[_peft_name(site, "B")] = (np.dtype(np.float32), (fan_out, rank))
    arrays = _load_arrays(path / "adapter_model.npz", expected)
    factors = {
        site: Factors(
            np.ascontiguousarray(arrays[_peft_name(site, "A")].T),
            np.ascontiguousarray(arrays[_peft_name(site, "B")].T),
        )
        for site in sites
    }
    return Adapter(rank=rank, alpha=alpha, factors=factors)


def is_state(path: Path) -> bool:
    """Tell whether the directory is one that `save_state` wrote."""
    return (path / "state.json").is_file()


def _read_state(path: Path, header: Header, config: ModelConfig) -> TrainerState:
    rank, alpha, sites = _check_adapter(
        path / "state.json", header["rank"], header["alpha"], header["target_modules"], config
    )
    expected: Expected = {}
    if header["pending"] is not None:
        for site in sites:
            expected[f"pending/{site}"] = (np.dtype(np.float64), config.sites()[site])
    for group in _GROUPS:
        for site in sites:
            fan_in, fan_out = config.sites()[site]
            expected[f"{group}/{site}.lora_a"] = (np.dtype(np.float32), (fan_in, rank))
            expected[f"{group}/{site}.lora_b"] = (np.dtype(np.float32), (rank, fan_out))
    arrays = _load_arrays(path / "state.npz", expected)
    groups = {
        group: {
            site: Factors(arrays[f"{group}/{site}.lora_a"], arrays[f"{group}/{site}.lora_b"])
            for site in sites
        }
        for group in _GROUPS
    }
    pending = None
    if header["pending"] is not None:
        counts = header["pending"]
        gradient = {site: arrays[f"pending/{site}"] for site in sites}
        pending = Pending(gradient, counts["active"], counts["skip_normalization"])
    return TrainerState(
        adapter=Adapter(rank=rank, alpha=alpha, factors=groups["adapter"]),
        first=groups["first"],
        second=groups["second"],
        step=header["step"],
        pending=pending,
    )


def _check_adapter(
    where: Path, rank: object, alpha: object, targets: object, config: ModelConfig
) -> tuple[int, float, list[str]]:
    """Return rank, alpha and the places in the model's order; refuse what makes no adapter."""
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= MAX_RANK:
        raise _damaged(where, f"the rank is {rank!r}, expected an integer from 1 to {MAX_RANK}")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not math.isfinite(alpha):
        raise _damaged(where, f"alpha is {alpha!r}, expected a finite number")
    names: list[object] = [targets] if isinstance(targets, str) else list(targets or ())  # type: ignore[call-overload]
    places = config.sites()
    if not names or any(name not in places for name in names) or len(set(names)) < len(names):
        raise _damaged(where, f"target_modules are {targets!r}, expected some of {list(places)}")
    return rank, float(alpha), [site for site in places if site in names]


def _peft_name(site: str, factor: str) -> str:
    return f"base_model.model.{site}.lora_{factor}.weight"


def _save_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _load_json(path: Path) -> Header:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(value, dict):
        raise _damaged(path, "expected a JSON object")
    return value  # type: ignore[return-value]  # JSON objects have text keys


def _save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _load_arrays(path: Path, expected: Expected) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays: dict[str, NDArray[Any]] = {name: archive[name] for name in archive.files}
    except _UNREADABLE as error:
        raise _damaged(path, str(error)) from error
    if set(arrays) != set(expected):
        raise _damaged(path, f"it holds {sorted(arrays)}, expected {sorted(expected)}")
    for name, (dtype, shape) in expected.items():
        found = arrays[name]
        if found.dtype != dtype or found.shape != shape:
            problem = f"{name} is {found.dtype} {found.shape}, expected {dtype} {shape}"
            raise _damaged(path, f"{problem}: is it of another base model?")
        if not np.isfinite(found).all():
            raise _damaged(path, f"{name} holds numbers that are not finite")
    return arrays


def _damaged(path: Path, problem: str) -> CheckpointError:
    return CheckpointError(f"checkpoint {path}: {problem}; expected what this backend saved")
