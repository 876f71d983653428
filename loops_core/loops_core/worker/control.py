"""The control plane: makes sessions, runs and samplers, finds checkpoints, tells what is served."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, final

from loops_core import chance
from loops_core.clock import Clock
from loops_core.errors import ConflictError, NotFoundError, UnsupportedError, UsageError
from loops_core.types.base import WireModel
from loops_core.types.checkpoint import CheckpointFilesResponse
from loops_core.types.deployment import (
    AvailabilityModel,
    CheckpointListing,
    CheckpointSource,
    CreateSamplerBody,
    CreateTrainerBody,
    Empty,
    RunReply,
    SamplerReply,
    ServerCapabilities,
    Session,
    SessionReply,
    SupportedModel,
    ValidateCheckpointBody,
)
from loops_core.types.routes import Call
from loops_core.worker.checkpoints import Checkpoints, to_checkpoint
from loops_core.worker.keyed_lock import KeyedLock
from loops_core.worker.models import Models
from loops_core.worker.overview import to_run, to_sampler
from loops_core.worker.records import (
    CreateRecord,
    Records,
    RunRecord,
    SamplerEntry,
    SessionRecord,
    make_id,
)
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
        self._creating = KeyedLock()

    def create_session(self, call: Call[SessionReply], owner: str) -> SessionReply:
        """Start a session."""

        def make(create: CreateRecord | None, session_id: str) -> None:
            record = SessionRecord(id=session_id, owner=owner, created_s=self._clock.now())
            self._records.add(record, create=create)

        return SessionReply(session=Session(id=self._once(call, owner, make)))

    def create_trainer(self, call: Call[RunReply], owner: str) -> RunReply:
        """Open a trainer for a new run; its base model is loaded when this returns."""
        body = body_of(call, CreateTrainerBody)
        self._check_session(body.session_id, owner)
        _refuse_elsewhere(body)
        if body.path is not None:
            self._checkpoints.find(body.path, owner=owner)

        def make(create: CreateRecord | None, run_id: str) -> None:
            record = RunRecord(
                id=run_id,
                owner=owner,
                session_id=body.session_id,
                base_model=body.base_model,
                seed=chance.draw_bits(_SEED_BITS) if body.seed is None else body.seed,
                max_seq_len=body.max_seq_len,
                name=body.name or body.base_model,
                created_s=self._clock.now(),
            )
            self._runs.start(record, create=create)

        run = self._runs.get(self._once(call, owner, make), owner=owner)
        return RunReply(run=to_run(run.record, max_seq_len=run.description.max_seq_len))

    def create_sampler(self, call: Call[SamplerReply], owner: str) -> SamplerReply:
        """Name a sampler: a run's own (the same each time), a base model's, or a checkpoint's."""
        body = body_of(call, CreateSamplerBody)
        self._check_session(body.session_id, owner)
        _refuse_elsewhere(body)
        asked = [body.run_id, body.base_model, body.model_path]
        if sum(value is not None for value in asked) != 1:
            raise UsageError(
                "a sampler needs exactly one of run_id, base_model and model_path; given: "
                f"run_id={body.run_id!r}, base_model={body.base_model!r}, "
                f"model_path={body.model_path!r}"
            )
        return SamplerReply(sampler=to_sampler(self._find_or_add_sampler(call, body, owner)))

    def capabilities(self, _call: Call[ServerCapabilities], _owner: str) -> ServerCapabilities:
        """Return the models that can be trained by name."""
        return ServerCapabilities(
            supported_models=[
                SupportedModel(model_name=name, max_context_length=self._models.max_seq_len(name))
                for name in self._models.names()
            ]
        )

    def list_checkpoints(self, call: Call[CheckpointListing], owner: str) -> CheckpointListing:
        """Return the checkpoints of a run, of a base model, or at one address."""
        asked = {name: str(value) for name, value in call.query.items()}
        if len(asked) != 1 or not asked.keys() <= {"run_id", "base_model", "checkpoint_path"}:
            raise UsageError(
                "listing checkpoints takes exactly one of run_id, base_model and checkpoint_path; "
                f"given: {', '.join(sorted(asked)) or 'none'}"
            )
        if "checkpoint_path" in asked:
            found = self._checkpoints.find(asked["checkpoint_path"], owner=owner)
            return CheckpointListing(checkpoints=[to_checkpoint(found)])
        run_id = asked.get("run_id")
        if run_id is not None and self._records.run(run_id, owner=owner) is None:
            raise NotFoundError(f"run_id {run_id!r}: there is no such run", kind="run", name=run_id)
        listing = self._checkpoints.listing(
            owner=owner, run_id=run_id, base_model=asked.get("base_model")
        )
        return CheckpointListing(checkpoints=listing)

    def checkpoint_files(
        self, call: Call[CheckpointFilesResponse], owner: str
    ) -> CheckpointFilesResponse:
        """Return links to a page of a checkpoint's files."""
        return self._checkpoints.files(
            call.path_args["checkpoint_id"],
            owner=owner,
            page_size=_whole(call, "page_size", _DEFAULT_PAGE),
            page_token=_whole(call, "page_token", 0),
        )

    def checkpoint_source(self, call: Call[CheckpointSource], owner: str) -> CheckpointSource:
        """Say that a checkpoint's files are behind the links of its files page."""
        self._checkpoints.record(call.path_args["checkpoint_id"], owner=owner)
        return CheckpointSource(source={"kind": "s3"})

    def validate_checkpoint(self, call: Call[Empty], owner: str) -> Empty:
        """Return if the checkpoint exists and fits the run's base model."""
        body = body_of(call, ValidateCheckpointBody)
        record = self._checkpoints.find(body.checkpoint_path, owner=owner)
        run = None if body.run_id is None else self._records.run(body.run_id, owner=owner)
        if body.run_id is not None and run is None:
            raise NotFoundError(
                f"run_id {body.run_id!r}: there is no such run", kind="run", name=body.run_id
            )
        if run is not None and run.base_model != record.base_model:
            raise UsageError(
                f"checkpoint_path {body.checkpoint_path!r} was trained on {record.base_model!r}: "
                f"run {run.id} has {run.base_model!r}",
                field="checkpoint_path",
            )
        return Empty()

    def _once(
        self,
        call: Call[Any],
        owner: str,
        make: Callable[[CreateRecord | None, str], None],
    ) -> str:
        """Return the id of what the call's key made, now or earlier; without a key it is new.

        Raises:
            ConflictError: the key made something else.
        """
        fresh = make_id()
        if call.idempotency_key is None:
            make(None, fresh)
            return fresh
        body = b"" if call.body is None else call.body.model_dump_json().encode()
        create = CreateRecord(
            owner=owner,
            key=call.idempotency_key,
            route=call.route.name,
            digest=hashlib.sha256(body).digest(),
            record_id=fresh,
        )
        with self._creating.hold((owner, create.key)):  # a repeat waits here for the first
            made = self._records.created(owner, create.key)
            if made is None:
                make(create, fresh)
                return fresh
        if (made.route, made.digest) != (create.route, create.digest):
            raise ConflictError(
                f"idempotency_key {create.key!r} was used before for another call: use a new key",
                field="idempotency_key",
                first_operation_id=made.record_id,
            )
        return made.record_id

    def _check_session(self, session_id: str, owner: str) -> None:
        if self._records.session(session_id, owner=owner) is None:
            raise NotFoundError(
                f"session_id {session_id!r}: there is no such session",
                kind="session",
                name=session_id,
                field="session_id",
            )

    def _find_or_add_sampler(
        self, call: Call[Any], body: CreateSamplerBody, owner: str
    ) -> SamplerEntry:
        base_model = self._sampler_model(body, owner)
        self._check_length(base_model, body.max_seq_length)

        def make(create: CreateRecord | None, sampler_id: str) -> None:
            entry = SamplerEntry(
                id=sampler_id,
                owner=owner,
                base_model=base_model,
                run_id=body.run_id,
                model_path=body.model_path,
                max_seq_len=body.max_seq_length,
                created_s=self._clock.now(),
            )
            self._records.add(entry, create=create)

        if body.run_id is None:
            sampler_id = self._once(call, owner, make)
        else:
            with self._creating.hold(body.run_id):
                paired = self._records.paired_sampler(body.run_id, owner=owner)
                sampler_id = make_id() if paired is None else paired.id
                if paired is None:
                    make(None, sampler_id)
        found = self._records.sampler(sampler_id, owner=owner)
        assert found is not None
        return found

    def _check_length(self, base_model: str, wanted: int | None) -> None:
        """Refuse a sampler for longer sequences than its model has; each serves all of that."""
        if wanted is None:
            return
        longest = self._models.engine(base_model).describe().max_seq_len
        if wanted > longest:
            raise UsageError(
                f"max_seq_length is {wanted}: expected at most {longest}, the context of "
                f"{base_model}",
                field="max_seq_length",
            )

    def _sampler_model(self, body: CreateSamplerBody, owner: str) -> str:
        if body.run_id is not None:
            run = self._records.run(body.run_id, owner=owner)
            if run is None:
                message = f"run_id {body.run_id!r}: there is no such run"
                raise NotFoundError(message, kind="run", name=body.run_id, field="run_id")
            return run.base_model
        if body.model_path is not None:
            return self._checkpoints.find(body.model_path, owner=owner).base_model
        base_model = body.base_model or ""
        self._models.directory(base_model)
        return base_model


def body_of(call: Call[Any], body_type: type[BodyT]) -> BodyT:
    """Return the call's body, which must be of this type."""
    if not isinstance(call.body, body_type):
        raise UsageError(
            f"{call.route.name} needs a {body_type.__name__}, not {type(call.body).__name__}"
        )
    return call.body


def _refuse_elsewhere(body: CreateTrainerBody | CreateSamplerBody) -> None:
    """Refuse what only a service with machines of its own can do.

    `reuse_from_run_id` and `reuse_from_session_id` are hints: where nothing can be taken over, the
    call still succeeds.
    """
    for name, possible in _POSSIBLE.items():
        value = getattr(body, name, None)
        if value not in (None, possible):
            raise _not_here(name, value)


_POSSIBLE: Final[Mapping[str, object]] = {
    "replicas": 1,
    "num_replicas": 1,
    "availability_model": AvailabilityModel.DEDICATED,
    "base_checkpoint": None,
    "scope": None,
    "debug_version": None,
    "scale_down_delay_seconds": CreateTrainerBody.model_fields["scale_down_delay_seconds"].default,
}
"""What can be asked of the options that concern machines; None can of each."""


def _not_here(name: str, value: object) -> UnsupportedError:
    return UnsupportedError(
        f"{name}={value!r} is not offered here: this service runs in one process and provisions "
        "no machines; leave it out",
        field=name,
    )


def _whole(call: Call[Any], name: str, default: int) -> int:
    """Return a whole number of the query."""
    value = call.query.get(name, default)
    try:
        return int(value)
    except ValueError as error:
        raise UsageError(f"{name} must be a whole number, not {value!r}", field=name) from error
