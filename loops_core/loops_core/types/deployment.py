"""The control plane's records: sessions, runs, samplers, deployments, capabilities."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AliasChoices, Field

from loops_core.types.base import WireModel
from loops_core.types.checkpoint import Checkpoint


class AvailabilityModel(StrEnum):
    """Whether capacity may be taken away."""

    DEDICATED = "dedicated"
    SPOT = "spot"


class Empty(WireModel):
    """A body or answer without fields that matter."""


class Status(WireModel):
    """A state by name; the set of names is open."""

    name: str


class Session(WireModel):
    """What one ServiceClient created."""

    id: str


class SessionReply(WireModel):
    """The answer to creating a session."""

    session: Session


class Team(WireModel):
    """A group of owners; a service of one's own has one, the caller's."""

    id: str
    name: str


class TeamListing(WireModel):
    """The answer to listing teams."""

    teams: list[Team]


class CreateTrainerBody(WireModel):
    """What a trainer should be."""

    session_id: str
    base_model: str
    lora_rank: Annotated[int, Field(ge=1)] = 64
    replicas: Annotated[int, Field(ge=1)] = 1
    availability_model: AvailabilityModel = AvailabilityModel.DEDICATED
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    max_seq_len: Annotated[int, Field(ge=1)] | None = None
    name: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    path: str | None = None
    base_checkpoint: str | None = None
    reuse_from_run_id: str | None = None
    reuse_from_session_id: str | None = None
    scale_down_delay_seconds: Annotated[int, Field(ge=1, le=3600)] = 900
    scope: str | None = None
    debug_version: str | None = None


class Run(WireModel):
    """One trainer identity.

    Attributes:
        id: names it; empty for a trainer without a service that could name it.
        base_url: where its trainer answers; None while there is none.
        deployment_id: the trainer's deployment; None = shared capacity behind a queue.
        max_seq_len: most positions of one datum.
    """

    id: str
    session_id: str
    base_model: str
    base_url: str | None
    name: str = ""
    deployment_id: str | None = None
    base_checkpoint: str | None = None
    max_seq_len: int | None = None
    created_at: datetime | None = None
    status: Status = Status(name="ACTIVE")


class RunReply(WireModel):
    """The answer to creating or reading a run."""

    run: Run


class RunListing(WireModel):
    """The answer to listing runs, newest first."""

    runs: list[Run]


class CreateSamplerBody(WireModel):
    """What a sampler should serve: a run's weights, a base model, or a checkpoint."""

    session_id: str
    run_id: str | None = None
    base_model: str | None = None
    model_path: str | None = None
    max_seq_length: Annotated[int, Field(ge=1)] | None = None
    availability_model: AvailabilityModel | None = None
    num_replicas: Annotated[int, Field(ge=1)] | None = None
    reuse_from_session_id: str | None = None
    scope: str | None = None
    debug_version: str | None = None


class SamplerRecord(WireModel):
    """One sampler identity."""

    id: str
    base_url: str
    base_model: str
    model_id: str | None = None
    deployment_id: str | None = None
    base_checkpoint: str | None = None
    created_at: datetime | None = None
    status: Status = Status(name="ACTIVE")


class SamplerReply(WireModel):
    """The answer to creating a sampler."""

    sampler: SamplerRecord


class SamplerListing(WireModel):
    """The answer to listing samplers, newest first."""

    samplers: list[SamplerRecord]


class Deployment(WireModel):
    """Where a run's trainer lives, and how it is.

    Attributes:
        status: `RUNNING`, or `STOPPED` once the run was deactivated.
    """

    id: str
    active_run_id: str | None = None
    latest_run_id: str | None = None
    base_model: str
    base_url: str | None
    status: Status
    created_at: datetime | None = None
    availability_model: AvailabilityModel = AvailabilityModel.DEDICATED
    instance_type: str = "local"
    node_count: int = 1


class DeploymentReply(WireModel):
    """The answer to reading a deployment."""

    deployment: Deployment


class DeploymentListing(WireModel):
    """The answer to listing deployments, newest first."""

    deployments: list[Deployment]


class ModelDeployment(WireModel):
    """How a sampler's deployment is: `ACTIVE` when it answers."""

    id: str
    status: str


class CheckpointSource(WireModel):
    """Where a checkpoint's files come from: `s3` = behind the links of its files page."""

    source: dict[str, str]


class CheckpointListing(WireModel):
    """The answer to listing checkpoints, newest first."""

    checkpoints: list[Checkpoint]


class ValidateCheckpointBody(WireModel):
    """Asks whether a checkpoint exists and may be sampled from by this run."""

    checkpoint_path: str
    run_id: str | None = None


class SupportedModel(WireModel):
    """A model that the service can train.

    Attributes:
        model_name: what `base_model` must say.
        max_context_length: most positions of one datum, where known.
    """

    model_name: str
    max_context_length: int | None = Field(
        default=None, validation_alias=AliasChoices("max_context_length", "max_seq_len")
    )


class ServerCapabilities(WireModel):
    """What the service offers."""

    supported_models: list[SupportedModel] = Field(default_factory=list[SupportedModel])


class PolicyVersion(WireModel):
    """The published version of a run's weights; None = nothing is known yet."""

    policy_version: int | None = None


class ModelCard(WireModel):
    """A model that a sampler serves; an adapter names its base model as `parent`."""

    id: str
    parent: str | None = None


class ModelListing(WireModel):
    """The answer of `GET /v1/models`."""

    data: list[ModelCard]


@dataclass(frozen=True, slots=True)
class TrainerDeployment:
    """Where a trainer answers; `deployment_id` is None for shared or local capacity."""

    base_url: str
    deployment_id: str | None = None


@dataclass(frozen=True, slots=True)
class SamplerDeployment:
    """Where a sampler answers; the ids are None for shared or local capacity."""

    base_url: str
    model_id: str | None = None
    deployment_id: str | None = None
