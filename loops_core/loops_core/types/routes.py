"""Every call of the protocol as a value: the routes, and a call along one of them.

A transport carries a `Call` to where its route is answered and brings back the route's reply. The
client makes calls, a server reads requests back into calls, and the worker answers calls: all
three read the one table below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, TypeVar

from loops_core.types.base import WireModel
from loops_core.types.checkpoint import CheckpointFilesResponse
from loops_core.types.deployment import (
    CheckpointListing,
    CheckpointSource,
    CreateSamplerBody,
    CreateTrainerBody,
    DeploymentListing,
    DeploymentReply,
    Empty,
    ModelDeployment,
    ModelListing,
    PolicyVersion,
    RunListing,
    RunReply,
    SamplerListing,
    SamplerReply,
    ServerCapabilities,
    SessionReply,
    TeamListing,
    ValidateCheckpointBody,
)
from loops_core.types.operation import (
    OPERATIONS,
    Accepted,
    CancelReply,
    OperationKind,
    OperationStatus,
    PollBody,
    PollReply,
)
from loops_core.types.sampling import Completions, SampleBody

ReplyT = TypeVar("ReplyT", bound=WireModel)


@dataclass(frozen=True, slots=True)
class Route(Generic[ReplyT]):
    """One row of the protocol.

    Attributes:
        name: the call's name in logs, traces and dispatch tables.
        method: the HTTP method.
        path: below the service's address; `{name}` stands for a path argument.
        reply_type: what comes back.
        body_type: what is sent; None = no body.
        service: who answers: the control plane, a run's trainer, or a sampler.
    """

    name: str
    method: Literal["GET", "POST"]
    path: str
    reply_type: type[ReplyT]
    body_type: type[WireModel] | None = None
    service: Literal["control", "trainer", "sampler"] = "control"


@dataclass(frozen=True, slots=True)
class SamplerPin:
    """Which weights may answer a sample.

    Attributes:
        run_id: the run whose paired sampler is meant.
        sampler_id: the standalone sampler that is meant.
        checkpoint_path: serve exactly this checkpoint, until the floor is reached.
        min_policy_version: the floor: the live adapter answers only from this version on.
    """

    run_id: str | None = None
    sampler_id: str | None = None
    checkpoint_path: str | None = None
    min_policy_version: int | None = None


@dataclass(frozen=True, slots=True)
class BatchPart:
    """Which part of a batch a body is, where a batch is too large for one body.

    The parts of a batch share its idempotency key; the service makes one operation of them.

    Attributes:
        index: the part's place, from 0.
        count: how many parts the batch has.
    """

    index: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[ReplyT]):
    """A request along a route, complete with everything that a transport needs to carry it.

    Attributes:
        route: where to.
        base_url: the answering service's own address, as the control plane gave it; None for the
            control plane.
        path_args: values of the path's `{name}` parts, unescaped.
        query: the query string's fields.
        body: an instance of the route's body type.
        run_id: the run that the call belongs to.
        team_id: the team that a create belongs to; None = the caller's own.
        idempotency_key: the same in every attempt; the service executes a key once.
        pin: which weights may answer, for `SAMPLE`.
        part: which part of a batch the body is; None = the whole.
        affinity_key: samples with one key are served by one replica where possible.
        hold_s: how long the service may hold a poll, in seconds.
        timeout_s: how long the transport may take in all, in seconds; None = its own bound.
    """

    route: Route[ReplyT]
    base_url: str | None = None
    path_args: Mapping[str, str] = field(default_factory=dict[str, str])
    query: Mapping[str, str | int] = field(default_factory=dict[str, str | int])
    body: WireModel | None = None
    run_id: str | None = None
    team_id: str | None = None
    idempotency_key: str | None = None
    pin: SamplerPin = SamplerPin()
    part: BatchPart | None = None
    affinity_key: str | None = None
    hold_s: float = 0.0
    timeout_s: float | None = None


_LOOPS: Final = "/v1/loops"

CREATE_SESSION: Final = Route("create_session", "POST", f"{_LOOPS}/sessions", SessionReply)
GET_SESSION: Final = Route("get_session", "GET", f"{_LOOPS}/sessions/{{session_id}}", SessionReply)
LIST_TEAMS: Final = Route("list_teams", "GET", "/v1/teams", TeamListing)
CREATE_TRAINER: Final = Route(
    "create_trainer", "POST", f"{_LOOPS}/trainers", RunReply, CreateTrainerBody
)
CREATE_SAMPLER: Final = Route(
    "create_sampler", "POST", f"{_LOOPS}/samplers", SamplerReply, CreateSamplerBody
)
LIST_RUNS: Final = Route("list_runs", "GET", f"{_LOOPS}/runs", RunListing)
GET_RUN: Final = Route("get_run", "GET", f"{_LOOPS}/runs/{{run_id}}", RunReply)
DEACTIVATE_RUN: Final = Route(
    "deactivate_run", "POST", f"{_LOOPS}/runs/{{run_id}}/deactivate", RunReply
)
LIST_SAMPLERS: Final = Route("list_samplers", "GET", f"{_LOOPS}/samplers", SamplerListing)
GET_SAMPLER: Final = Route("get_sampler", "GET", f"{_LOOPS}/samplers/{{sampler_id}}", SamplerReply)
LIST_DEPLOYMENTS: Final = Route(
    "list_deployments", "GET", f"{_LOOPS}/deployments", DeploymentListing
)
GET_DEPLOYMENT: Final = Route(
    "get_deployment", "GET", f"{_LOOPS}/deployments/{{deployment_id}}", DeploymentReply
)
GET_MODEL_DEPLOYMENT: Final = Route(
    "get_model_deployment",
    "GET",
    "/v1/models/{model_id}/deployments/{deployment_id}",
    ModelDeployment,
)
GET_CAPABILITIES: Final = Route(
    "get_capabilities", "GET", f"{_LOOPS}/capabilities", ServerCapabilities
)
LIST_CHECKPOINTS: Final = Route(
    "list_checkpoints", "GET", f"{_LOOPS}/checkpoints", CheckpointListing
)
GET_CHECKPOINT_FILES: Final = Route(
    "get_checkpoint_files",
    "GET",
    f"{_LOOPS}/checkpoints/{{checkpoint_id}}/files",
    CheckpointFilesResponse,
)
GET_CHECKPOINT_SOURCE: Final = Route(
    "get_checkpoint_source",
    "GET",
    f"{_LOOPS}/checkpoints/{{checkpoint_id}}/source",
    CheckpointSource,
)
VALIDATE_CHECKPOINT: Final = Route(
    "validate_checkpoint", "POST", f"{_LOOPS}/checkpoints/validate", Empty, ValidateCheckpointBody
)

SUBMIT: Final[Mapping[OperationKind, Route[Accepted]]] = {
    kind: Route(kind.value, "POST", spec.path, Accepted, spec.body_type, "trainer")
    for kind, spec in OPERATIONS.items()
}
"""The submit of every operation."""

RETRIEVE: Final = Route(
    "retrieve", "GET", "/operations/{operation_id}", OperationStatus, None, "trainer"
)
POLL: Final = Route("poll", "POST", "/operations/poll", PollReply, PollBody, "trainer")
CANCEL: Final = Route(
    "cancel", "POST", "/operations/{operation_id}/cancel", CancelReply, None, "trainer"
)
HEALTH: Final = Route("health", "GET", "/health", Empty, None, "trainer")
POLICY_VERSION: Final = Route(
    "policy_version", "GET", "/policy_version", PolicyVersion, None, "trainer"
)

SAMPLE: Final = Route("sample", "POST", "/sample", Completions, SampleBody, "sampler")
LIST_MODELS: Final = Route("list_models", "GET", "/v1/models", ModelListing, None, "sampler")
SAMPLER_POLICY_VERSION: Final = Route(
    "sampler_policy_version", "GET", "/trainers_policy_version", PolicyVersion, None, "sampler"
)
SAMPLER_HEALTH: Final = Route("sampler_health", "GET", "/health", Empty, None, "sampler")
WAKE: Final = Route("wake", "POST", "/wake", Empty, None, "sampler")

ROUTES: Final[tuple[Route[WireModel], ...]] = (  # type: ignore[assignment]  # Route is covariant in use
    LIST_TEAMS,
    CREATE_SESSION,
    GET_SESSION,
    CREATE_TRAINER,
    LIST_RUNS,
    GET_RUN,
    DEACTIVATE_RUN,
    CREATE_SAMPLER,
    LIST_SAMPLERS,
    GET_SAMPLER,
    LIST_DEPLOYMENTS,
    GET_DEPLOYMENT,
    GET_MODEL_DEPLOYMENT,
    GET_CAPABILITIES,
    LIST_CHECKPOINTS,
    GET_CHECKPOINT_FILES,
    GET_CHECKPOINT_SOURCE,
    VALIDATE_CHECKPOINT,
    *SUBMIT.values(),
    RETRIEVE,
    POLL,
    CANCEL,
    HEALTH,
    POLICY_VERSION,
    SAMPLE,
    LIST_MODELS,
    SAMPLER_POLICY_VERSION,
    SAMPLER_HEALTH,
    WAKE,
)
"""Every route; a service answers all of them or says `UnsupportedError`."""
