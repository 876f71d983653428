"""The control plane: sessions, runs, samplers, checkpoints, capabilities."""

from __future__ import annotations

import secrets
import threading
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, final

from loops_core.clock import Clock
from loops_core.errors import NotFoundError, UnsupportedError, UsageError
from loops_core.types.base import WireModel
from loops_core.types.checkpoint import CheckpointFilesResponse
from loops_core.types.deployment import (
    AvailabilityModel,
    CheckpointListing,
    CreateSamplerBody,
    CreateTrainerBody,
    Empty,
    Run,
    RunReply,
    SamplerRecord,
    SamplerReply,
    ServerCapabilities,
    Session,
    SessionReply,
    SupportedModel,
    ValidateCheckpointBody,
)
from loops_core.types.routes import Call
from loops_core.worker.checkpoints import Checkpoints, to_checkpoint
from loops_core.worker.models import Models
from loops_core.worker.records import Records, RunRecord, SamplerEntry, SessionRecord, make_id
from loops_core.worker.runs import Runs

BodyT = TypeVar("BodyT", bound=WireModel)

_DEFAULT_PAGE: Final = 1000
_SEED_BITS: Final = 31


@final
class ControlPlane:
    """Answers the calls of the control plane."""

    def __init__(
        self,
        records: Records,
        checkpoints: Checkpoints,
        models: Models,
        runs: Runs,
        clock: Clock,
    ) -> None:
        """Keep what was created in `records`."""
        self._records = records
        self._checkpoints = checkpoints
        self._models = models
        self._runs = runs
        self._clock = clock
        self._sampler_lock = threading.Lock()

    def create_session(self, _call: Call[SessionReply]) -> SessionReply:
        """Start a session."""
        record = SessionRecord(id=make_id(), created_s=self._clock.now())
        self._records.add(record)
        return SessionReply(session=Session(id=record.id))

    def create_trainer(self, call: Call[RunReply]) -> RunReply:
        """Open a trainer for a new run; its base model is loaded when this returns."""
        body = body_of(call, CreateTrainerBody)
        self._check_session(body.session_id)
        _refuse_elsewhere(body)
        if body.path is not None:
            self._checkpoints.find(body.path)
        record = RunRecord(
            id=make_id(),
            session_id=body.session_id,
            base_model=body.base_model,
            seed=secrets.randbits(_SEED_BITS) if body.seed is None else body.seed,
            max_seq_len=body.max_seq_len,
            name=body.name or body.base_model,
            created_s=self._clock.now(),
        )
        run = self._runs.start(record)
        return RunReply(run=self._to_run(record, run.description.max_seq_len))

    def create_sampler(self, call: Call[SamplerReply]) -> SamplerReply:
        """Name a sampler: a run's own (the same each time), a base model's, or a checkpoint's."""
        body = body_of(call, CreateSamplerBody)
        self._check_session(body.session_id)
        if body.num_replicas not in (None, 1):
            raise _not_here("num_replicas", body.num_replicas)
        if body.availability_model not in (None, AvailabilityModel.DEDICATED):
            raise _not_here("availability_model", body.availability_model)
        if body.max_seq_length is not None:
            raise _not_here("max_seq_length", body.max_seq_length)
        asked = [body.run_id, body.base_model, body.model_path]
        if sum(value is not None for value in asked) != 1:
            raise UsageError(
                "a sampler needs exactly one of run_id, base_model and model_path; given: "
                f"run_id={body.run_id!r}, base_model={body.base_model!r}, "
                f"model_path={body.model_path!r}"
            )
        with self._sampler_lock:
            return SamplerReply(sampler=_to_sampler(self._find_or_add_sampler(body)))

    def capabilities(self, _call: Call[ServerCapabilities]) -> ServerCapabilities:
        """Return the models that plugins know by name; local directories can be trained too."""
        names = self._models.names()
        return ServerCapabilities(supported_models=[SupportedModel(model_name=n) for n in names])

    def list_checkpoints(self, call: Call[CheckpointListing]) -> CheckpointListing:
        """Return the checkpoints of a run, of a base model, or at one address."""
        asked = {name: str(value) for name, value in call.query.items()}
        if len(asked) != 1 or not asked.keys() <= {"run_id", "base_model", "checkpoint_path"}:
            raise UsageError(
                "listing checkpoints takes exactly one of run_id, base_model and checkpoint_path; "
                f"given: {', '.join(sorted(asked)) or 'none'}"
            )
        if "checkpoint_path" in asked:
            found = self._checkpoints.find(asked["checkpoint_path"])
            return CheckpointListing(checkpoints=[to_checkpoint(found)])
        if "run_id" in asked and self._records.run(asked["run_id"]) is None:
            run_id = asked["run_id"]
            raise NotFoundError(f"run_id {run_id!r}: there is no such run", kind="run", name=run_id)
        listing = self._checkpoints.listing(
            run_id=asked.get("run_id"), base_model=asked.get("base_model")
        )
        return CheckpointListing(checkpoints=listing)

    def checkpoint_files(self, call: Call[CheckpointFilesResponse]) -> CheckpointFilesResponse:
        """Return links to a page of a checkpoint's files."""
        return self._checkpoints.files(
            call.path_args["checkpoint_id"],
            page_size=int(call.query.get("page_size", _DEFAULT_PAGE)),
            page_token=int(call.query.get("page_token", 0)),
        )

    def validate_checkpoint(self, call: Call[Empty]) -> Empty:
        """Return if the checkpoint exists and fits the run's base model."""
        body = body_of(call, ValidateCheckpointBody)
        record = self._checkpoints.find(body.checkpoint_path)
        run = None if body.run_id is None else self._records.run(body.run_id)
        if run is not None and run.base_model != record.base_model:
            raise UsageError(
                f"checkpoint_path {body.checkpoint_path!r} was trained on {record.base_model!r}: "
                f"run {run.id} has {run.base_model!r}",
                field="checkpoint_path",
            )
        return Empty()

    def _check_session(self, session_id: str) -> None:
        if self._records.session(session_id) is None:
            raise NotFoundError(
                f"session_id {session_id!r}: there is no such session",
                kind="session",
                name=session_id,
                field="session_id",
            )

    def _find_or_add_sampler(self, body: CreateSamplerBody) -> SamplerEntry:
        if body.run_id is not None:
            paired = self._records.paired_sampler(body.run_id)
            if paired is not None:
                return paired
        entry = SamplerEntry(
            id=make_id(),
            base_model=self._sampler_model(body),
            run_id=body.run_id,
            model_path=body.model_path,
            max_seq_len=body.max_seq_length,
            created_s=self._clock.now(),
        )
        self._records.add(entry)
        return entry

    def _sampler_model(self, body: CreateSamplerBody) -> str:
        if body.run_id is not None:
            run = self._records.run(body.run_id)
            if run is None:
                message = f"run_id {body.run_id!r}: there is no such run"
                raise NotFoundError(message, kind="run", name=body.run_id, field="run_id")
            return run.base_model
        if body.model_path is not None:
            return self._checkpoints.find(body.model_path).base_model
        base_model = body.base_model or ""
        self._models.directory(base_model)
        return base_model

    def _to_run(self, record: RunRecord, max_seq_len: int) -> Run:
        return Run(
            id=record.id,
            session_id=record.session_id,
            base_model=record.base_model,
            base_url=f"inproc:/runs/{record.id}",
            name=record.name,
            max_seq_len=max_seq_len,
            created_at=datetime.fromtimestamp(record.created_s, UTC),
        )


def body_of(call: Call[Any], body_type: type[BodyT]) -> BodyT:
    """Return the call's body, which must be of this type."""
    if not isinstance(call.body, body_type):
        raise UsageError(
            f"{call.route.name} needs a {body_type.__name__}, not {type(call.body).__name__}"
        )
    return call.body


def _refuse_elsewhere(body: CreateTrainerBody) -> None:
    """Refuse what only a service with machines of its own can do."""
    for name, value, default in (
        ("replicas", body.replicas, 1),
        ("availability_model", body.availability_model, AvailabilityModel.DEDICATED),
        ("base_checkpoint", body.base_checkpoint, None),
        ("reuse_from_run_id", body.reuse_from_run_id, None),
        ("reuse_from_session_id", body.reuse_from_session_id, None),
    ):
        if value != default:
            raise _not_here(name, value)


def _not_here(name: str, value: object) -> UnsupportedError:
    return UnsupportedError(
        f"{name}={value!r} is not offered here: this service runs in one process and provisions "
        "no machines; leave it out",
        field=name,
    )


def _to_sampler(entry: SamplerEntry) -> SamplerRecord:
    return SamplerRecord(
        id=entry.id,
        base_url=f"inproc:/samplers/{entry.id}",
        base_model=entry.base_model,
        created_at=datetime.fromtimestamp(entry.created_s, UTC),
    )
