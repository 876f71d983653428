"""What there is: sessions, runs, samplers and deployments as listings show them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, final

from loops_core.errors import NotFoundError
from loops_core.types.deployment import (
    Deployment,
    DeploymentListing,
    DeploymentReply,
    ModelDeployment,
    Run,
    RunListing,
    RunReply,
    SamplerListing,
    SamplerRecord,
    SamplerReply,
    Session,
    SessionReply,
    Status,
    Team,
    TeamListing,
)
from loops_core.types.routes import Call
from loops_core.worker.records import Records, RunRecord, SamplerEntry
from loops_core.worker.runs import Runs


@final
class Overview:
    """Reads the records of one owner at a time, and ends runs.

    A run's trainer is a deployment of its own, with the run's id; a sampler likewise.
    """

    def __init__(self, records: Records, runs: Runs) -> None:
        """Read from `records`."""
        self._records = records
        self._runs = runs

    def teams(self, _call: Call[TeamListing], owner: str) -> TeamListing:
        """Return the caller's own team: everybody is one."""
        return TeamListing(teams=[Team(id=owner, name=owner)])

    def session(self, call: Call[SessionReply], owner: str) -> SessionReply:
        """Return a session."""
        session_id = call.path_args["session_id"]
        if self._records.session(session_id, owner=owner) is None:
            raise _nowhere("session", session_id)
        return SessionReply(session=Session(id=session_id))

    def runs(self, _call: Call[RunListing], owner: str) -> RunListing:
        """Return the runs, newest first."""
        return RunListing(runs=[to_run(record) for record in self._records.runs(owner=owner)])

    def run(self, call: Call[RunReply], owner: str) -> RunReply:
        """Return a run."""
        return RunReply(run=to_run(self._run(call.path_args["run_id"], owner)))

    def deactivate_run(self, call: Call[RunReply], owner: str) -> RunReply:
        """End a run and its paired sampler for good; its checkpoints stay. Twice is no error."""
        record = self._run(call.path_args["run_id"], owner)
        if record.ended_s is None:
            self._runs.deactivate(record)
        return RunReply(run=to_run(self._run(record.id, owner)))

    def samplers(self, _call: Call[SamplerListing], owner: str) -> SamplerListing:
        """Return the samplers, newest first."""
        rows = self._records.samplers(owner=owner)
        return SamplerListing(samplers=[to_sampler(row) for row in rows])

    def sampler(self, call: Call[SamplerReply], owner: str) -> SamplerReply:
        """Return a sampler."""
        return SamplerReply(sampler=to_sampler(self._sampler(call.path_args["sampler_id"], owner)))

    def deployments(self, _call: Call[DeploymentListing], owner: str) -> DeploymentListing:
        """Return the trainers' deployments, newest first."""
        rows = self._records.runs(owner=owner)
        return DeploymentListing(deployments=[_to_deployment(row) for row in rows])

    def deployment(self, call: Call[DeploymentReply], owner: str) -> DeploymentReply:
        """Return the deployment of a run's trainer."""
        record = self._run(call.path_args["deployment_id"], owner, kind="deployment")
        return DeploymentReply(deployment=_to_deployment(record))

    def model_deployment(self, call: Call[ModelDeployment], owner: str) -> ModelDeployment:
        """Return whether a sampler answers."""
        entry = self._sampler(call.path_args["deployment_id"], owner)
        if call.path_args["model_id"] != entry.id:
            raise _nowhere("model", call.path_args["model_id"])
        return ModelDeployment(id=entry.id, status=self._status(entry))

    def _status(self, entry: SamplerEntry) -> str:
        run = None if entry.run_id is None else self._records.run(entry.run_id, owner=entry.owner)
        return "INACTIVE" if run is not None and run.ended_s is not None else "ACTIVE"

    def _run(self, run_id: str, owner: str, *, kind: str = "run") -> RunRecord:
        record = self._records.run(run_id, owner=owner)
        if record is None:
            raise _nowhere(kind, run_id)
        return record

    def _sampler(self, sampler_id: str, owner: str) -> SamplerEntry:
        entry = self._records.sampler(sampler_id, owner=owner)
        if entry is None:
            raise _nowhere("sampler", sampler_id)
        return entry


def to_run(record: RunRecord, *, max_seq_len: int | None = None) -> Run:
    """Return a run as callers see it."""
    return Run(
        id=record.id,
        session_id=record.session_id,
        base_model=record.base_model,
        base_url=f"/trainers/{record.id}",
        name=record.name,
        deployment_id=record.id,
        max_seq_len=max_seq_len or record.max_seq_len,
        created_at=_time(record.created_s),
        status=Status(name="ACTIVE" if record.ended_s is None else "INACTIVE"),
    )


def to_sampler(entry: SamplerEntry) -> SamplerRecord:
    """Return a sampler as callers see it."""
    return SamplerRecord(
        id=entry.id,
        base_url=f"/samplers/{entry.id}",
        base_model=entry.base_model,
        model_id=entry.id,
        deployment_id=entry.id,
        created_at=_time(entry.created_s),
    )


def _to_deployment(record: RunRecord) -> Deployment:
    is_active = record.ended_s is None
    return Deployment(
        id=record.id,
        active_run_id=record.id if is_active else None,
        latest_run_id=record.id,
        base_model=record.base_model,
        base_url=f"/trainers/{record.id}",
        status=Status(name="RUNNING" if is_active else "STOPPED"),
        created_at=_time(record.created_s),
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _nowhere(kind: str, name: Any) -> NotFoundError:
    return NotFoundError(
        f"{kind}_id {name!r}: there is no such {kind}", kind=kind, name=name, field=f"{kind}_id"
    )
