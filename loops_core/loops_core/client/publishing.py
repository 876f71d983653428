"""From a trainer to its paired sampler: publishing weights, and clients that sample from them."""

from __future__ import annotations

from functools import partial
from typing import Final

from loops_core.client import calls, steps
from loops_core.client.arguments import check_sampler_path
from loops_core.client.drivers import Flow, send
from loops_core.client.futures import STAGE_CEILING_S, ComposedFuture
from loops_core.client.link import TrainerLink, new_key
from loops_core.client.sampler_link import SamplerLink, SamplerSettings
from loops_core.client.sampling import SamplingClient
from loops_core.errors import LoopsError, StalePolicyError, UnsupportedError
from loops_core.types.deployment import CreateSamplerBody, SamplerDeployment, SamplerRecord
from loops_core.types.routes import SamplerPin
from loops_core.types.training import SaveWeightsForSamplerResponse

_SAMPLER_BUDGET_S: Final = 300.0


def publish(link: TrainerLink, name: str) -> Flow[ComposedFuture[SamplingClient]]:
    """Submit the publishing; the future's second stage waits for the sampler."""
    first = yield from steps.save_weights_for_sampler(link, name, None)
    return ComposedFuture(link.host, first, partial(_look, link), partial(_too_late, link))


def _look(
    link: TrainerLink, published: SaveWeightsForSamplerResponse
) -> Flow[SamplingClient | None]:
    """Return a client if the paired sampler has the published version."""
    sampler = yield from paired_sampler(link)
    pin = SamplerPin(run_id=link.run.run_id)
    reply = yield from send(calls.sampler_policy_version(base_url=sampler.base_url, pin=pin))
    if (reply.policy_version or 0) < published.version:
        return None
    return _client(link, sampler, min_policy_version=published.version)


def _too_late(link: TrainerLink, published: SaveWeightsForSamplerResponse) -> LoopsError:
    return StalePolicyError(
        f"the sampler did not load policy version {published.version} within "
        f"{STAGE_CEILING_S:g} s: the weights are saved as {published.path}",
        min_policy_version=published.version,
        run_id=link.run.run_id,
    )


def open_paired(link: TrainerLink, model_path: str) -> Flow[SamplingClient]:
    """Return a client pinned to a checkpoint until something newer is published."""
    link.check_open()
    check_sampler_path("model_path", model_path)
    call = calls.validate_checkpoint(model_path, run_id=link.run.run_id)
    yield from link.driver.persist(call, budget_s=_SAMPLER_BUDGET_S)
    sampler = yield from paired_sampler(link)
    floor = link.last_published + 1
    return _client(link, sampler, min_policy_version=floor, checkpoint_path=model_path)


def paired_sampler(link: TrainerLink) -> Flow[SamplerRecord]:
    """Return the sampler that belongs to the trainer's run; the service makes it once.

    A trainer without a run, which no service is around, has the one sampler of its base model.
    """
    run_id, session_id = link.run.run_id, link.settings.session_id
    if session_id is None:
        raise UnsupportedError("this trainer has no session, so no sampler can be paired with it")
    base_model = None if run_id is not None else link.run.base_model
    place = link.settings.placement
    body = CreateSamplerBody(
        session_id=session_id,
        run_id=run_id,
        base_model=base_model,
        num_replicas=link.settings.sampler_num_replicas,
        scope=place.scope,
        debug_version=place.debug_version,
    )
    call = calls.create_sampler(
        body,
        team_id=place.team_id,
        idempotency_key=new_key(),
        timeout_s=_SAMPLER_BUDGET_S,
    )
    reply = yield from link.driver.persist(call, budget_s=_SAMPLER_BUDGET_S)
    return reply.sampler


def _client(
    link: TrainerLink,
    sampler: SamplerRecord,
    *,
    min_policy_version: int,
    checkpoint_path: str | None = None,
) -> SamplingClient:
    settings = SamplerSettings(
        base_model=sampler.base_model,
        deployment=deployment_of(sampler),
        service_url=link.settings.service_url,
        pin=SamplerPin(
            run_id=link.run.run_id,
            checkpoint_path=checkpoint_path,
            min_policy_version=min_policy_version or None,
        ),
        session_id=link.settings.session_id,
        timeout_s=link.settings.sampler_timeout_s,
        ready_timeout_s=link.settings.ready_timeout_s,
    )
    return SamplingClient.on_link(SamplerLink(settings, driver=link.driver, plugins=link.plugins))


def deployment_of(sampler: SamplerRecord) -> SamplerDeployment:
    """Return where a sampler answers."""
    return SamplerDeployment(
        base_url=sampler.base_url.rstrip("/"),
        model_id=sampler.model_id,
        deployment_id=sampler.deployment_id,
    )
