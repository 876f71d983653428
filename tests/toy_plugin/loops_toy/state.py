"""The toy's model and what it remembers: one logit for each token, whatever stands before."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from loops_core.errors import CheckpointError, UnsupportedError

Floats = NDArray[np.float64]


def load_sizes(model_dir: Path) -> tuple[int, int]:
    """Return vocabulary size and longest sequence of a model directory; refuse other models."""
    try:
        config = json.loads((model_dir / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{model_dir} holds no config.json that can be read") from error
    if config.get("model_type") != "loops_toy":
        raise UnsupportedError(f"model_type is {config.get('model_type')!r}; expected 'loops_toy'")
    return config["vocab_size"], config["max_seq_len"]


STATE = "toy.json"
ADAPTER = "toy_adapter.json"
"""The files of a whole state and of weights alone: nobody resumes from the second."""


def log_probs(logits: list[float]) -> Floats:
    """Return the log-probability of every token."""
    values = np.asarray(logits)
    return values - np.log(np.exp(values - values.max()).sum()) - values.max()


@dataclass(slots=True)
class ToyState:
    """Everything a toy trainer remembers; it is small enough to be one JSON text."""

    rank: int
    logits: list[float]
    first: list[float]
    second: list[float]
    step: int = 0
    pending: list[float] | None = None
    active: int = 0
    skip: bool = False

    @classmethod
    def fresh(cls, rank: int, logits: list[float]) -> Self:
        """Return a state with these weights and an empty optimizer."""
        zeros = [0.0] * len(logits)
        return cls(rank=rank, logits=logits, first=zeros, second=zeros)

    def save(self, path: Path) -> None:
        """Write everything."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path, *, vocab_size: int) -> Self:
        """Return what `save` wrote."""
        try:
            state = cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path} holds no toy state: {error}") from error
        if len(state.logits) != vocab_size:
            raise CheckpointError(f"{path} is of a model with {len(state.logits)} tokens")
        return state

    def digest(self) -> str:
        """Return a SHA-256 of everything."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()
