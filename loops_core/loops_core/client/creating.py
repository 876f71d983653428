"""Making trainers and samplers: what a caller may wish for, and the flows that fulfil it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self, final

from loops_core import chance
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
from loops_core.client.link import Placement, TrainerLink, TrainerSettings, new_key
from loops_core.client.opening import ServiceOptions
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

_SAMPLER_TIMEOUT_S: Final = 300.0


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
            UnsupportedError: wandb is not installed.
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
        if self.sampler_num_replicas is not None:
            check_int("sampler_num_replicas", self.sampler_num_replicas, minimum=1)
        for name in ("name", "scope", "base_checkpoint"):
            value = getattr(self, name)
            if value is not None:
                check_text(name, value)
        _check_wandb(self.wandb_config)
        return self


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
    place = service.placement(wish.scope)
    call = calls.create_trainer(
        _trainer_body(session_id, wish, service.options, place, restore),
        team_id=place.team_id,
        idempotency_key=new_key(),
        timeout_s=wish.ready_timeout,
    )
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
        sampler_num_replicas=wish.sampler_num_replicas,
        placement=place,
    )
    event = RunEvent(
        run_id=run.id or None,
        client_id=chance.draw_hex(16),
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


def _trainer_body(
    session_id: str,
    wish: TrainerWish,
    options: ServiceOptions,
    place: Placement,
    restore: tuple[OperationKind, str] | None,
) -> CreateTrainerBody:
    reused_run, reused_session = options.reuse_from_run_id, options.reuse_from_session_id
    if wish.base_checkpoint is not None and (reused_run or reused_session):
        raise UsageError(
            f"base_checkpoint={shown(wish.base_checkpoint)} needs weights of its own: leave it "
            "out, or reuse_from_run_id and reuse_from_session_id",
            field="base_checkpoint",
        )
    with usage_errors():
        return CreateTrainerBody(
            session_id=session_id,
            base_model=wish.base_model,
            lora_rank=wish.rank,
            replicas=wish.replicas,
            availability_model=options.availability_model or AvailabilityModel.DEDICATED,
            seed=wish.seed,
            max_seq_len=wish.max_seq_len,
            name=wish.name,
            path=None if restore is None else restore[1],
            base_checkpoint=wish.base_checkpoint,
            reuse_from_run_id=reused_run,
            reuse_from_session_id=None if reused_run else reused_session,
            scope=place.scope,
            debug_version=place.debug_version,
        )


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
        if wish.with_sampler or wish.sampler_num_replicas not in (None, 1):
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


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerWish:
    """What a caller wants of a sampler; fields as in `create_sampling_client`."""

    base_model: str | None
    model_path: str | None
    timeout: float | None
    ready_timeout: float
    max_seq_len: int | None
    num_replicas: int | None
    scope: str | None

    def check(self) -> None:
        """Raise `UsageError` if a field is wrong."""
        if (self.base_model is None) == (self.model_path is None):
            raise UsageError(
                "exactly one of base_model and model_path is needed; given: "
                f"base_model={shown(self.base_model)}, model_path={shown(self.model_path)}",
                field="base_model",
            )
        if self.base_model is not None:
            check_text("base_model", self.base_model)
        if self.model_path is not None:
            check_sampler_path("model_path", self.model_path)
        if self.timeout is not None:
            check_seconds("timeout", self.timeout)
        check_seconds("ready_timeout", self.ready_timeout)
        if self.num_replicas is not None:
            check_int("num_replicas", self.num_replicas, minimum=1)
        if self.scope is not None:
            check_text("scope", self.scope)


def create_sampler(service: ServiceLink, wish: SamplerWish) -> Flow[SamplingClient]:
    """Return a client of a new sampler that answers."""
    wish.check()
    session_id = yield from service.session()
    options, place = service.options, service.placement(wish.scope)
    with usage_errors():
        body = CreateSamplerBody(
            session_id=session_id,
            availability_model=options.availability_model or AvailabilityModel.DEDICATED,
            base_model=wish.base_model,
            model_path=wish.model_path,
            max_seq_length=wish.max_seq_len,
            num_replicas=wish.num_replicas,
            reuse_from_session_id=options.reuse_from_session_id,
            scope=place.scope,
            debug_version=place.debug_version,
        )
    call = calls.create_sampler(
        body,
        team_id=place.team_id,
        idempotency_key=new_key(),
        timeout_s=_SAMPLER_TIMEOUT_S,
    )
    sampler = (yield from service.create(call, budget_s=_SAMPLER_TIMEOUT_S)).sampler
    settings = SamplerSettings(
        base_model=sampler.base_model,
        deployment=publishing.deployment_of(sampler),
        service_url=service.base_url,
        pin=SamplerPin(sampler_id=sampler.id, checkpoint_path=wish.model_path),
        session_id=session_id,
        timeout_s=wish.timeout,
        ready_timeout_s=wish.ready_timeout,
    )
    link = SamplerLink(settings, driver=service.driver, plugins=service.plugins)
    yield from link.ensure_ready(None)
    return SamplingClient.on_link(link)
