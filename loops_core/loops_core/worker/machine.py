"""The state machine of one run: applies entries of its log to a trainer."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol, final

import numpy as np

from loops_core.errors import CheckpointError, UsageError
from loops_core.protocols import Trainer
from loops_core.types.base import WireModel
from loops_core.types.checkpoint import CheckpointAddress, CheckpointTarget
from loops_core.types.datum import Datum
from loops_core.types.operation import (
    ForwardBody,
    InitTrainerServerBody,
    LoadStateBody,
    OperationKind,
    OptimStepBody,
    SaveStateBody,
    SaveWeightsForSamplerBody,
)
from loops_core.types.tensor import TensorData
from loops_core.types.training import (
    IGNORED_TARGET,
    ForwardBackwardOutput,
    InitTrainerServerResponse,
    LoadWeightsResponse,
    OptimStepResponse,
    SaveWeightsForSamplerResponse,
    SaveWeightsResponse,
)
from loops_core.worker.checkpoints import Checkpoints, NewCheckpoint
from loops_core.worker.entries import LogEntry
from loops_core.worker.records import CheckpointRecord, RunRecord

_STATE_FILE: Final = "machine.json"
_TRAINER_FOLDER: Final = "trainer"
_FORMAT: Final = 1


class Publisher(Protocol):
    """Hands published weights to the run's paired sampler."""

    def publish(self, record: CheckpointRecord) -> None:
        """Let the checkpoint's weights answer from now on."""
        ...


@dataclass(slots=True)
class _Counters:
    """What a run counts besides the trainer's own state.

    Attributes:
        version: the policy version published last; 0 = none.
        num_inits: how often a fresh adapter was drawn; each draws from a seed of its own.
    """

    version: int = 0
    num_inits: int = 0


@final
class TrainerMachine:
    """Applies `init_trainer_server`, passes, steps, saves and loads to one trainer, in log order.

    An entry that raises has changed nothing. The state is the trainer's and two counters.
    """

    def __init__(
        self, run: RunRecord, trainer: Trainer, checkpoints: Checkpoints, publisher: Publisher
    ) -> None:
        """Drive `trainer` for `run`."""
        self._run = run
        self._trainer = trainer
        self._checkpoints = checkpoints
        self._publisher = publisher
        self._counters = _Counters()

    @property
    def policy_version(self) -> int:
        """Return the policy version published last; 0 = none."""
        return self._counters.version

    @property
    def trainer(self) -> Trainer:
        """Return the trainer; only the thread that applies entries may change it."""
        return self._trainer

    def apply(self, entry: LogEntry) -> WireModel:
        """Run one entry and return its result."""
        body = entry.body
        if isinstance(body, InitTrainerServerBody):
            return self._init(body)
        if isinstance(body, ForwardBody):
            return self._pass(entry.kind, body)
        if isinstance(body, OptimStepBody):
            return OptimStepResponse(metrics=self._trainer.optim_step(body.adam_params))
        if isinstance(body, SaveStateBody):
            return self._save_state(body)
        if isinstance(body, SaveWeightsForSamplerBody):
            return self._publish(body)
        if isinstance(body, LoadStateBody):
            with_optimizer = entry.kind is OperationKind.LOAD_STATE_WITH_OPTIMIZER
            return self._load(body, optimizer=with_optimizer, as_of_s=entry.started_s)
        raise UsageError(f"operation {entry.kind} is not one that a trainer applies")

    def replay(self, entry: LogEntry, result: WireModel) -> None:
        """Repeat the state change of an entry that succeeded before; what it saved exists."""
        if isinstance(result, SaveWeightsForSamplerResponse):
            self._counters.version = result.version
        elif entry.kind is not OperationKind.SAVE_STATE:
            self.apply(entry)

    def save(self, path: Path) -> None:
        """Write the whole state into an empty directory."""
        if self._counters.num_inits:
            (path / _TRAINER_FOLDER).mkdir()
            self._trainer.save(path / _TRAINER_FOLDER)
        state = {
            "format": _FORMAT,
            "version": self._counters.version,
            "num_inits": self._counters.num_inits,
        }
        (path / _STATE_FILE).write_text(json.dumps(state))

    def load(self, path: Path) -> None:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the files are damaged or of another version.
        """
        try:
            state = json.loads((path / _STATE_FILE).read_text())
            counters = _Counters(version=int(state["version"]), num_inits=int(state["num_inits"]))
            known = state["format"] == _FORMAT
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"snapshot {path.name} is damaged: {error}") from error
        if not known:
            raise CheckpointError(
                f"snapshot {path.name} has format {state['format']}: expected {_FORMAT}"
            )
        if counters.num_inits:
            self._trainer.load(path / _TRAINER_FOLDER, optimizer=True)
        self._counters = counters

    def close(self) -> None:
        """Close the trainer."""
        self._trainer.close()

    def _init(self, body: InitTrainerServerBody) -> InitTrainerServerResponse:
        seed = _init_seed(self._run.seed, self._counters.num_inits)
        self._trainer.init(rank=body.lora_rank, seed=seed)
        self._counters.num_inits += 1
        return InitTrainerServerResponse(step=self._trainer.step, lora_rank=self._trainer.rank)

    def _pass(self, kind: OperationKind, body: ForwardBody) -> ForwardBackwardOutput:
        is_forward = kind is OperationKind.FORWARD
        run = self._trainer.forward if is_forward else self._trainer.forward_backward
        output = run(
            [with_targets(datum) for datum in body.data],
            loss_fn=body.loss_fn,
            loss_fn_config=body.loss_fn_config or {},
            top_k_logprobs=body.top_k_logprobs,
        )
        for tensors in output.loss_fn_outputs:
            for tensor in tensors.values():
                tensor.data.setflags(write=False)  # as a result is that comes out of the log
        return output

    def _save_state(self, body: SaveStateBody) -> SaveWeightsResponse:
        new = self._new_checkpoint(CheckpointTarget.TRAINER, body.name, body.ttl_seconds)
        self._checkpoints.save(new, self._trainer.save)
        return SaveWeightsResponse(mode="local", path=str(new.address))

    def _publish(self, body: SaveWeightsForSamplerBody) -> SaveWeightsForSamplerResponse:
        version = self._counters.version + 1
        target = CheckpointTarget.SAMPLER
        live = body.bump_version is not False
        new = replace(
            self._new_checkpoint(target, body.name, body.ttl_seconds), version=version, live=live
        )
        record = self._checkpoints.save(new, self._trainer.export_adapter)
        if live:
            self._publisher.publish(record)
        self._counters.version = version
        mode = "published" if live else "staged"
        return SaveWeightsForSamplerResponse(mode=mode, path=str(new.address), version=version)

    def _new_checkpoint(
        self, target: CheckpointTarget, name: str, ttl_seconds: int | None
    ) -> NewCheckpoint:
        return NewCheckpoint(
            address=CheckpointAddress(self._run.id, target, name),
            owner=self._run.owner,
            base_model=self._run.base_model,
            rank=self._trainer.rank,
            ttl_seconds=ttl_seconds,
        )

    def _load(
        self, body: LoadStateBody, *, optimizer: bool, as_of_s: float | None
    ) -> LoadWeightsResponse:
        path = self._open_path(body.path, as_of_s)
        self._trainer.load(path, optimizer=optimizer)
        self._counters.num_inits = max(1, self._counters.num_inits)
        return LoadWeightsResponse(step=self._trainer.step)

    def _open_path(self, path: str, as_of_s: float | None) -> Path:
        """Return the directory that `path` means: a checkpoint address, or a local directory."""
        if path.startswith("bt://"):
            record = self._checkpoints.find(path, owner=self._run.owner, as_of_s=as_of_s)
            if record.base_model != self._run.base_model:
                raise UsageError(
                    f"path {path!r} was trained on base model {record.base_model!r}: this run's is "
                    f"{self._run.base_model!r}",
                    field="path",
                )
            return self._checkpoints.open_local(record)
        folder = Path(path.removeprefix("file://")).expanduser()
        if not folder.is_dir():
            raise UsageError(
                f"path {path!r} is neither a local directory nor a checkpoint address "
                "(bt://loops:<run_id>/weights/<name>)",
                field="path",
            )
        return folder


def with_targets(datum: Datum) -> Datum:
    """Return the datum with `target_tokens`: without them, each position predicts the next token.

    The last position then has no target.
    """
    if "target_tokens" in datum.loss_fn_inputs:
        return datum
    targets = np.asarray([*datum.model_input.to_ints()[1:], IGNORED_TARGET], dtype=np.int64)
    inputs = {**datum.loss_fn_inputs, "target_tokens": TensorData.from_numpy(targets)}
    return datum.model_copy(update={"loss_fn_inputs": inputs})


def _init_seed(seed: int, num_inits: int) -> int:
    """Return the seed of a run's n-th adapter: reproducible, and another one for each."""
    return int(np.random.SeedSequence([seed, num_inits]).generate_state(1, np.uint32)[0])
