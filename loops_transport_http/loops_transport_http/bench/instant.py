"""A backend without maths: a pass ends at once, or at the opening of a gate.

It makes visible what everything around a backend costs. It keeps the contract of a backend as far
as training goes, and draws no samples. This module is its plugin. It is installed
nowhere: `Plugins.load` takes it as an extra one, and `servers` installs it for one process.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

from loops_core.errors import CheckpointError, UnsupportedError
from loops_core.hooks import hookimpl
from loops_core.protocols import (
    Array,
    Backend,
    BackendConfig,
    LossFunction,
    SampleHandle,
    SampleOutcome,
    SamplerDescription,
    SampleRequest,
    SamplerSpec,
    TrainerDescription,
    TrainerSpec,
)
from loops_core.protocols.losses import LossSetting
from loops_core.types.datum import Datum
from loops_core.types.training import AdamParams, ForwardBackwardOutput, LossFnConfig
from loops_transport_http.bench.workload import BatchSize, make_output

NAME: Final = "instant"
"""The name of the backend, and of the one base model that it is asked for."""

HOLD: Final = "hold"
"""The setting of its loss that makes a pass wait for the gate."""

GATE: Final = "LOOPS_BENCH_GATE"
"""The environment variable with the path of the gate: a file that exists once it is open."""

_LOOK_EVERY_S: Final = 0.005
_MOST: Final = 1_000_000
_STATE: Final = "state.json"


def _no_loss(target_logprobs: Array, *_: object) -> Array:
    return -target_logprobs


_LOSS: Final = LossFunction(
    name="cross_entropy",
    compute=_no_loss,
    source="none: nothing is computed",
    settings=(LossSetting(name=HOLD, default=False),),
    multiple_targets=True,
)


@final
class InstantTrainer:
    """A `Trainer` whose state is its rank and step, and whose passes return made-up values."""

    def __init__(self) -> None:
        """Start without an adapter."""
        self._state: dict[str, int] = {"rank": 0, "step": 0}
        self._outputs: dict[BatchSize, ForwardBackwardOutput] = {}

    def describe(self) -> TrainerDescription:
        """Return sizes that nothing here will reach."""
        return TrainerDescription(
            vocab_size=_MOST,
            max_seq_len=_MOST,
            max_lora_rank=_MOST,
            losses={_LOSS.name: _LOSS},
        )

    @property
    def rank(self) -> int:
        """Return the rank that was asked for."""
        return self._state["rank"]

    @property
    def step(self) -> int:
        """Return how many steps were asked for."""
        return self._state["step"]

    def init(self, *, rank: int, seed: int) -> None:
        """Start over; see `Trainer.init`."""
        del seed
        self._state = {"rank": rank, "step": 0}

    def forward(
        self,
        data: Sequence[Datum],
        *,
        loss_fn: str,
        loss_fn_config: LossFnConfig,
        top_k_logprobs: int = 0,
    ) -> ForwardBackwardOutput:
        """Return made-up values of the shape that the first datum has."""
        del loss_fn, top_k_logprobs
        if loss_fn_config.get(HOLD):
            _wait_for_gate()
        size = BatchSize(len(data), data[0].model_input.length)
        if size not in self._outputs:
            self._outputs[size] = make_output(size)
        return self._outputs[size].model_copy()

    forward_backward = forward

    def optim_step(self, adam_params: AdamParams) -> dict[str, float]:
        """Count a step."""
        self._state = {**self._state, "step": self.step + 1}
        return {"step": float(self.step), "learning_rate": adam_params.learning_rate}

    def save(self, path: Path) -> None:
        """Write the state into an empty directory."""
        (path / _STATE).write_text(json.dumps(self._state))

    def load(self, path: Path, *, optimizer: bool) -> None:
        """Read what `save` wrote."""
        try:
            saved = json.loads((path / _STATE).read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"checkpoint {path} is not one of backend {NAME!r}") from error
        self._state = saved if optimizer else {**saved, "step": 0}

    def export_adapter(self, path: Path) -> None:
        """Refuse: there is no adapter.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(f"backend {NAME!r} has no adapter to write to {path}")

    def digest(self) -> str:
        """Return a SHA-256 of the state."""
        return hashlib.sha256(json.dumps(self._state, sort_keys=True).encode()).hexdigest()

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


@final
class IdleSampler:
    """A `Sampler` that takes no request; a service opens one for every model that it loads."""

    def describe(self) -> SamplerDescription:
        """Return sizes that nothing here will reach."""
        return SamplerDescription(vocab_size=_MOST, max_seq_len=_MOST)

    def load_adapter(self, adapter_id: str, path: Path) -> None:
        """Do nothing; see `Sampler.load_adapter`."""

    def drop_adapter(self, adapter_id: str) -> None:
        """Do nothing; see `Sampler.drop_adapter`."""

    def submit(self, request: SampleRequest) -> SampleHandle:
        """Refuse.

        Raises:
            UnsupportedError: always.
        """
        del request
        raise UnsupportedError(f"backend {NAME!r} draws no samples; expected a training operation")

    def cancel(self, handle: SampleHandle) -> None:
        """Do nothing: there are no requests."""

    def step(self) -> list[SampleOutcome]:
        """Return nothing: there are no requests."""
        return []

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


@final
class InstantBackend:
    """A `Backend` of instant trainers and idle samplers."""

    @property
    def name(self) -> str:
        """Return `instant`."""
        return NAME

    def open_trainer(self, spec: TrainerSpec) -> InstantTrainer:
        """Return a trainer; any model will do."""
        del spec
        return InstantTrainer()

    def open_sampler(self, spec: SamplerSpec) -> IdleSampler:
        """Return a sampler that draws nothing."""
        del spec
        return IdleSampler()

    def close(self) -> None:
        """Do nothing: there are no weights."""


def _wait_for_gate() -> None:
    """Return once the gate is open; at once where there is none."""
    path = os.environ.get(GATE)
    while path is not None and not Path(path).exists():
        time.sleep(_LOOK_EVERY_S)


@hookimpl
def loops_backend(name: str, config: BackendConfig) -> Backend | None:
    """Return the backend for its name."""
    del config
    return InstantBackend() if name == NAME else None


@hookimpl
def loops_resolve_model(base_model: str) -> Path | None:
    """Return a directory for the base model's name; nothing in it is read."""
    return Path(__file__).parent if base_model == NAME else None


@hookimpl
def loops_model_names() -> Sequence[str]:
    """Return the base model's name."""
    return [NAME]
