"""The operations other than passes: checked, submitted, and their futures returned."""

from __future__ import annotations

from loops_core.client.arguments import (
    check_checkpoint_name,
    check_int,
    check_key,
    check_text,
    check_type,
    usage_errors,
)
from loops_core.client.drivers import Flow
from loops_core.client.futures import OperationFuture
from loops_core.client.link import TrainerLink
from loops_core.types.operation import (
    InitTrainerServerBody,
    LoadStateBody,
    OperationKind,
    OptimStepBody,
    SaveStateBody,
    SaveWeightsForSamplerBody,
)
from loops_core.types.training import (
    AdamParams,
    InitTrainerServerResponse,
    LoadWeightsResponse,
    OptimStepResponse,
    SaveWeightsForSamplerResponse,
    SaveWeightsResponse,
)


def init_trainer_server(
    link: TrainerLink, lora_rank: int
) -> Flow[OperationFuture[InitTrainerServerResponse]]:
    """Submit the reset to a fresh adapter."""
    check_int("lora_rank", lora_rank, minimum=1)
    body = InitTrainerServerBody(lora_rank=lora_rank, base_model=link.run.base_model)
    return (
        yield from link.submit(OperationKind.INIT_TRAINER_SERVER, InitTrainerServerResponse, body)
    )


def optim_step(
    link: TrainerLink, adam_params: AdamParams, idempotency_key: str | None
) -> Flow[OperationFuture[OptimStepResponse]]:
    """Submit one optimizer step."""
    given = check_type("adam_params", adam_params, AdamParams)
    with usage_errors("adam_params."):  # its fields may have been set to anything since it was made
        body = OptimStepBody(adam_params=AdamParams.model_validate(given.model_dump()))
    key = check_key(idempotency_key)
    return (
        yield from link.submit(
            OperationKind.OPTIM_STEP, OptimStepResponse, body, idempotency_key=key
        )
    )


def save_state(
    link: TrainerLink, name: str, ttl_seconds: int | None
) -> Flow[OperationFuture[SaveWeightsResponse]]:
    """Submit the save of a resumable checkpoint."""
    check_checkpoint_name("name", name)
    body = SaveStateBody(name=name, ttl_seconds=_ttl(ttl_seconds))
    return (yield from link.submit(OperationKind.SAVE_STATE, SaveWeightsResponse, body))


def save_weights_for_sampler(
    link: TrainerLink, name: str, ttl_seconds: int | None
) -> Flow[OperationFuture[SaveWeightsForSamplerResponse]]:
    """Submit the publishing of the adapter; the paired sampler swaps to it."""
    check_checkpoint_name("name", name)
    body = SaveWeightsForSamplerBody(name=name, ttl_seconds=_ttl(ttl_seconds), bump_version=True)
    return (
        yield from link.submit(
            OperationKind.SAVE_WEIGHTS_FOR_SAMPLER, SaveWeightsForSamplerResponse, body
        )
    )


def load(
    link: TrainerLink, kind: OperationKind, path: str
) -> Flow[OperationFuture[LoadWeightsResponse]]:
    """Submit a load, with or without the optimizer."""
    body = LoadStateBody(path=check_text("path", path))
    return (yield from link.submit(kind, LoadWeightsResponse, body))


def _ttl(ttl_seconds: int | None) -> int | None:
    return None if ttl_seconds is None else check_int("ttl_seconds", ttl_seconds, minimum=1)
