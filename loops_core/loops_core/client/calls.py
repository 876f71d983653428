"""Each call of the client as a value; pure."""

from __future__ import annotations

from loops_core.types.checkpoint import CheckpointFilesResponse
from loops_core.types.deployment import (
    CheckpointListing,
    CreateSamplerBody,
    CreateTrainerBody,
    Empty,
    ModelListing,
    PolicyVersion,
    RunReply,
    SamplerReply,
    ServerCapabilities,
    SessionReply,
    TeamListing,
    ValidateCheckpointBody,
)
from loops_core.types.operation import (
    Accepted,
    CancelReply,
    OperationBody,
    OperationKind,
    OperationStatus,
)
from loops_core.types.routes import (
    CANCEL,
    CREATE_SAMPLER,
    CREATE_SESSION,
    CREATE_TRAINER,
    GET_CAPABILITIES,
    GET_CHECKPOINT_FILES,
    HEALTH,
    LIST_CHECKPOINTS,
    LIST_MODELS,
    LIST_TEAMS,
    POLICY_VERSION,
    RETRIEVE,
    SAMPLE,
    SAMPLER_POLICY_VERSION,
    SUBMIT,
    VALIDATE_CHECKPOINT,
    BatchPart,
    Call,
    SamplerPin,
)
from loops_core.types.sampling import Completions, SampleBody

_POLL_MARGIN_S = 5.0
"""How much longer than its hold a poll may take on the way."""

_LATE_S = 1.0
"""How much longer than its caller waits a poll may take, whatever its hold."""

_HEALTH_TIMEOUT_S = 10.0


def list_teams() -> Call[TeamListing]:
    """Return the call that asks for the caller's teams."""
    return Call(route=LIST_TEAMS)


def create_session(*, team_id: str | None = None, idempotency_key: str) -> Call[SessionReply]:
    """Return the call that opens a session."""
    return Call(route=CREATE_SESSION, team_id=team_id, idempotency_key=idempotency_key)


def create_trainer(
    body: CreateTrainerBody, *, team_id: str | None, idempotency_key: str, timeout_s: float
) -> Call[RunReply]:
    """Return the call that makes a trainer."""
    return Call(
        route=CREATE_TRAINER,
        body=body,
        team_id=team_id,
        idempotency_key=idempotency_key,
        timeout_s=timeout_s,
    )


def create_sampler(
    body: CreateSamplerBody, *, team_id: str | None, idempotency_key: str, timeout_s: float
) -> Call[SamplerReply]:
    """Return the call that makes a sampler, or finds the one paired with a run."""
    return Call(
        route=CREATE_SAMPLER,
        body=body,
        team_id=team_id,
        idempotency_key=idempotency_key,
        timeout_s=timeout_s,
    )


def get_capabilities() -> Call[ServerCapabilities]:
    """Return the call that asks what the service offers."""
    return Call(route=GET_CAPABILITIES)


def list_checkpoints(run_id: str) -> Call[CheckpointListing]:
    """Return the call that lists a run's checkpoints."""
    return Call(route=LIST_CHECKPOINTS, query={"run_id": run_id})


def find_checkpoint(checkpoint_path: str) -> Call[CheckpointListing]:
    """Return the call that looks one checkpoint up by its address."""
    return Call(route=LIST_CHECKPOINTS, query={"checkpoint_path": checkpoint_path})


def get_checkpoint_files(
    checkpoint_id: str, *, page_size: int, page_token: int
) -> Call[CheckpointFilesResponse]:
    """Return the call that asks for one page of a checkpoint's files."""
    return Call(
        route=GET_CHECKPOINT_FILES,
        path_args={"checkpoint_id": checkpoint_id},
        query={"page_size": page_size, "page_token": page_token},
    )


def validate_checkpoint(checkpoint_path: str, *, run_id: str | None) -> Call[Empty]:
    """Return the call that asks whether a run may sample from a checkpoint."""
    body = ValidateCheckpointBody(checkpoint_path=checkpoint_path, run_id=run_id)
    return Call(route=VALIDATE_CHECKPOINT, body=body, run_id=run_id)


def submit(
    kind: OperationKind,
    body: OperationBody,
    *,
    base_url: str,
    idempotency_key: str,
    timeout_s: float,
    part: BatchPart | None = None,
) -> Call[Accepted]:
    """Return the call that hands an operation over, or a part of its batch."""
    return Call(
        route=SUBMIT[kind],
        base_url=base_url,
        body=body,
        run_id=body.run_id,
        idempotency_key=idempotency_key,
        part=part,
        timeout_s=timeout_s,
    )


def retrieve(
    operation_id: str, *, base_url: str, run_id: str | None, hold_s: float, left_s: float
) -> Call[OperationStatus]:
    """Return the call that polls an operation, for somebody who waits `left_s` seconds more."""
    return Call(
        route=RETRIEVE,
        base_url=base_url,
        path_args={"operation_id": operation_id},
        run_id=run_id,
        hold_s=hold_s,
        timeout_s=min(hold_s + _POLL_MARGIN_S, left_s + _LATE_S),
    )


def cancel(operation_id: str, *, base_url: str, run_id: str | None) -> Call[CancelReply]:
    """Return the call that asks for an operation never to run."""
    return Call(
        route=CANCEL,
        base_url=base_url,
        path_args={"operation_id": operation_id},
        run_id=run_id,
        timeout_s=_POLL_MARGIN_S,
    )


def health(*, base_url: str, run_id: str | None, base_model: str) -> Call[Empty]:
    """Return the call that asks whether a trainer answers for its base model."""
    return Call(
        route=HEALTH,
        base_url=base_url,
        query={"base_model": base_model},
        run_id=run_id,
        timeout_s=_HEALTH_TIMEOUT_S,
    )


def policy_version(*, base_url: str, run_id: str | None) -> Call[PolicyVersion]:
    """Return the call that asks a trainer for its published version."""
    return Call(route=POLICY_VERSION, base_url=base_url, run_id=run_id)


def sample(
    body: SampleBody,
    *,
    base_url: str,
    pin: SamplerPin,
    idempotency_key: str,
    affinity_key: str | None,
    timeout_s: float | None,
) -> Call[Completions]:
    """Return the call that draws sequences."""
    return Call(
        route=SAMPLE,
        base_url=base_url,
        body=body,
        run_id=pin.run_id,
        idempotency_key=idempotency_key,
        pin=pin,
        affinity_key=affinity_key,
        timeout_s=timeout_s,
    )


def list_models(*, base_url: str, pin: SamplerPin) -> Call[ModelListing]:
    """Return the call that asks a sampler what it serves."""
    return Call(route=LIST_MODELS, base_url=base_url, run_id=pin.run_id, pin=pin)


def sampler_policy_version(*, base_url: str, pin: SamplerPin) -> Call[PolicyVersion]:
    """Return the call that asks a sampler which published version it has loaded."""
    return Call(
        route=SAMPLER_POLICY_VERSION,
        base_url=base_url,
        run_id=pin.run_id,
        pin=pin,
        timeout_s=_HEALTH_TIMEOUT_S,
    )
