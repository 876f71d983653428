"""Making trainers and samplers: what a caller may wish for, and the flows that fulfil it."""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self, final

from loops_core.client import calls, publishing, steps
from loops_core.client.arguments import (
    check_int,
    check_offered,
    check_sampler_path,
    check_seconds,
    check_text,
    check_type,
    shown,
    usage_errors,
)
from loops_core.client.drivers import Flow
from loops_core.client.link import TrainerLink, TrainerSettings, new_key
from loops_core.client.sampler_link import SamplerLink, SamplerSettings
from loops_core.client.sampling import SamplingClient
from loops_core.client.service_link import ServiceLink
from loops_core.client.training import TrainingClient
from loops_core.errors import (
    LoopsError,
    NotFoundError,
    ResultTimeoutError,
    TransportError,
    UnsupportedError,
    UsageError,
)
from loops_core.hooks import RunEvent
from loops_core.types.checkpoint import Checkpoint
from loops_core.types.deployment import (
    AvailabilityModel,
    CreateSamplerBody,
    CreateTrainerBody,
    Run,
)
from loops_core.types.operation import OperationKind
from loops_core.types.routes import SamplerPin
from loops_core.types.training import WandbConfig

_NO_FLEET: Final = "no transport of this version provisions machines"
_NO_TEAMS: Final = "no transport of this version knows teams, scopes or versions of a service"
_NO_REUSE: Final = "no transport of this version hands capacity over from run to run"
_SAMPLER_TIMEOUT_S: Final = 300.0


def check_service_options(
    *,
    training_project_id: str | None,
    reuse_from_run_id: str | None,
    reuse_from_session_id: str | None,
    team: str | None,
    availability_model: AvailabilityModel | str | None,
    internal_backend_version: str | None,
) -> None:
    """Refuse what a service client cannot be asked for."""
    for name, value, missing in (
        ("training_project_id", training_project_id, "runs belong to sessions, not to projects"),
        ("reuse_from_run_id", reuse_from_run_id, _NO_REUSE),
        ("reuse_from_session_id", reuse_from_session_id, _NO_REUSE),
        ("team", team, _NO_TEAMS),
        ("internal_backend_version", internal_backend_version, _NO_TEAMS),
    ):
        check_offered(name, value, default=None, missing=missing)
    if availability_model not in (None, AvailabilityModel.DEDICATED):
        known = [model.value for model in AvailabilityModel]
        if availability_model not in known:
            raise UsageError(
                f"availability_model must be one of {', '.join(known)}, "
                f"not {shown(availability_model)}",
                field="availability_model",
            )
        check_offered("availability_model", availability_model, default=None, missing=_NO_FLEET)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerWish:
    """What a caller wants of a trainer, checked; fields as in `create_lora_training_client`."""

    base_model: str
    rank: int = 32
    seed: int | None = None
    timeout: float = 600.0
    ready_timeout: float = 3600.0
    wandb_config: WandbConfig | None = None
    max_seq_len: int | None = None
    name: str | None = None
    sampler_timeout: float | None = None
    with_sampler: bool = False
    replicas: int = 1
    sampler_num_replicas: int | None = None
    scope: str | None = None
    base_checkpoint: str | None = None

    def check(self) -> Self:
        """Return this wish, which can be tried.

        Raises:
            UsageError: a field is wrong.
            UnsupportedError: a field cannot be honoured.
        """
        check_text("base_model", self.base_model)
        check_int("rank", self.rank, minimum=1)
        if self.seed is not None:
            check_int("seed", self.seed, minimum=0)
        if self.max_seq_len is not None:
            check_int("max_seq_len", self.max_seq_len, minimum=1)
        check_seconds("timeout", self.timeout)
        check_seconds("ready_timeout", self.ready_timeout)
        if self.sampler_timeout is not None:
            check_seconds("sampler_timeout", self.sampler_timeout)
        check_type("with_sampler", self.with_sampler, bool)
        check_int("replicas", self.replicas, minimum=1)
        check_offered("replicas", self.replicas, default=1, missing=_NO_FLEET)
        _check_replicas("sampler_num_replicas", self.sampler_num_replicas)
        check_offered("scope", self.scope, default=None, missing=_NO_TEAMS)
        check_offered(
            "base_checkpoint",
            self.base_checkpoint,
            default=None,
            missing="base weights come by name",
        )
        _check_wandb(self.wandb_config)
        return self


def _check_replicas(name: str, value: int | None) -> None:
    if value is not None:
        check_int(name, value, minimum=1)
        check_offered(name, value, default=1, missing=_NO_FLEET)


def _check_wandb(config: WandbConfig | None) -> None:
    if config is None:
        return
    check_type("wandb_config", config, WandbConfig)
    if importlib.util.find_spec("wandb") is None:
        raise UnsupportedError(
            "wandb_config needs wandb, which is not installed: pip install 'loops-core[wandb]'",
            field="wandb_config",
        )


def create_trainer(
    service: ServiceLink, wish: TrainerWish, *, restore: tuple[OperationKind, str] | None = None
) -> Flow[TrainingClient]:
    """Return a client of a new trainer that is ready, with a fresh adapter or a restored one."""
    wish.check()
    session_id = yield from service.session()
    with usage_errors():
        body = CreateTrainerBody(
            session_id=session_id,
            base_model=wish.base_model,
            lora_rank=wish.rank,
            seed=wish.seed,
            max_seq_len=wish.max_seq_len,
            name=wish.name,
            path=None if restore is None else restore[1],
        )
    call = calls.create_trainer(body, idempotency_key=new_key(), timeout_s=wish.ready_timeout)
    run = (yield from service.create(call, budget_s=wish.ready_timeout)).run
    base_url = yield from _until_healthy(service, run, wish.ready_timeout)
    settings = TrainerSettings(
        base_url=base_url,
        service_url=service.base_url,
        session_id=session_id,
        max_seq_len=run.max_seq_len,
        base_checkpoint=run.base_checkpoint,
        timeout_s=wish.timeout,
        ready_timeout_s=wish.ready_timeout,
        sampler_timeout_s=wish.sampler_timeout,
    )
    event = RunEvent(
        run_id=run.id or None,
        client_id=uuid.uuid4().hex,
        base_model=run.base_model,
        lora_rank=wish.rank,
        wandb_config=wish.wandb_config,
    )
    link = TrainerLink(service.driver, service.plugins, event, settings)
    yield from link.announce_open()
    yield from _start(link, wish, restore)
    client = TrainingClient(link)
    service.adopt(client)
    return client


def _until_healthy(service: ServiceLink, run: Run, ready_timeout_s: float) -> Flow[str]:
    """Return the trainer's address once it answers there."""
    if run.base_url is None:
        raise UnsupportedError(f"run {run.id} has no trainer to talk to: its base_url is null")
    run_id = run.id or None
    call = calls.health(base_url=run.base_url, run_id=run_id, base_model=run.base_model)
    try:
        yield from service.driver.persist(call, budget_s=ready_timeout_s)
    except TransportError as error:
        raise ResultTimeoutError(
            f"the trainer {f'of run {run_id}' if run_id else f'at {run.base_url}'} was not ready "
            f"within {ready_timeout_s:g} s: {error}",
            run_id=run_id,
        ) from error
    return run.base_url


def _start(
    link: TrainerLink, wish: TrainerWish, restore: tuple[OperationKind, str] | None
) -> Flow[None]:
    try:
        future = yield from steps.init_trainer_server(link, wish.rank)
        outcome = yield from future.wait_flow(link.host.now() + wish.ready_timeout)
        outcome.unwrap()
        if restore is not None:
            loading = yield from steps.load(link, *restore)
            loaded = yield from loading.wait_flow(link.host.now() + wish.ready_timeout)
            loaded.unwrap()
        if wish.with_sampler:
            yield from publishing.paired_sampler(link)
    except LoopsError:
        yield from link.close_flow()
        raise


def restore_trainer(
    service: ServiceLink,
    path: str,
    user_metadata: Mapping[str, str] | None,
    replicas: int,
    *,
    with_optimizer: bool,
) -> Flow[TrainingClient]:
    """Return a client of a new trainer that a checkpoint was loaded into."""
    check_text("path", path)
    check_offered("user_metadata", user_metadata, default=None, missing="runs do not keep metadata")
    check_int("replicas", replicas, minimum=1)
    checkpoint = yield from _find(service, path)
    wish = TrainerWish(
        base_model=checkpoint.base_model,
        rank=checkpoint.lora_adapter_config.rank,
        replicas=replicas,
    )
    kind = OperationKind.LOAD_STATE_WITH_OPTIMIZER if with_optimizer else OperationKind.LOAD_STATE
    return (yield from create_trainer(service, wish, restore=(kind, path)))


def _find(service: ServiceLink, path: str) -> Flow[Checkpoint]:
    listing = yield from service.read(calls.find_checkpoint(path))
    if not listing.checkpoints:
        raise NotFoundError(
            f"path {path!r}: there is no such checkpoint",
            kind="checkpoint",
            name=path,
            field="path",
        )
    return listing.checkpoints[0]


def create_sampler(
    service: ServiceLink,
    *,
    base_model: str | None,
    model_path: str | None,
    timeout: float | None,
    ready_timeout: float,
    max_seq_len: int | None,
    num_replicas: int | None,
    scope: str | None,
) -> Flow[SamplingClient]:
    """Return a client of a new sampler that answers."""
    if (base_model is None) == (model_path is None):
        raise UsageError(
            "exactly one of base_model and model_path is needed; given: "
            f"base_model={shown(base_model)}, model_path={shown(model_path)}",
            field="base_model",
        )
    if base_model is not None:
        check_text("base_model", base_model)
    if model_path is not None:
        check_sampler_path("model_path", model_path)
    if timeout is not None:
        check_seconds("timeout", timeout)
    check_seconds("ready_timeout", ready_timeout)
    _check_replicas("num_replicas", num_replicas)
    check_offered("scope", scope, default=None, missing=_NO_TEAMS)
    session_id = yield from service.session()
    with usage_errors():
        body = CreateSamplerBody(
            session_id=session_id,
            base_model=base_model,
            model_path=model_path,
            max_seq_length=max_seq_len,
        )
    call = calls.create_sampler(body, idempotency_key=new_key(), timeout_s=_SAMPLER_TIMEOUT_S)
    sampler = (yield from service.create(call, budget_s=_SAMPLER_TIMEOUT_S)).sampler
    settings = SamplerSettings(
        base_model=sampler.base_model,
        deployment=publishing.deployment_of(sampler),
        service_url=service.base_url,
        pin=SamplerPin(sampler_id=sampler.id, checkpoint_path=model_path),
        session_id=session_id,
        timeout_s=timeout,
        ready_timeout_s=ready_timeout,
    )
    link = SamplerLink(settings, driver=service.driver, plugins=service.plugins)
    yield from link.ensure_ready(None)
    return SamplingClient.on_link(link)
