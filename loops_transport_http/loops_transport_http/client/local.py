"""A trainer and a sampler without a service around them: `local:?trainer_url=..&sampler_url=..`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, cast, final
from urllib.parse import parse_qs, urlsplit

from loops_core.errors import NotFoundError, UnsupportedError, UsageError
from loops_core.protocols import BodyLimits, Transport
from loops_core.types import routes
from loops_core.types.base import WireModel
from loops_core.types.deployment import (
    AvailabilityModel,
    CreateSamplerBody,
    CreateTrainerBody,
    Empty,
    ModelListing,
    Run,
    RunReply,
    SamplerRecord,
    SamplerReply,
    Session,
    SessionReply,
)
from loops_core.types.routes import Call, SamplerPin

ReplyT = TypeVar("ReplyT", bound=WireModel)

SCHEME: Final = "local"

_ID: Final = "local"
"""The session's id, and the sampler's; it stays on this side of the wire."""

_CARRIED: Final = frozenset({"session_id", "base_model", "lora_rank"})
"""What a trainer without a service can be asked for: `init_trainer_server` tells it."""

_KNOWN: Final = frozenset({"session_id", "run_id", "base_model", "model_path"})
_OF_ANY_SAMPLER: Final[Mapping[str, object]] = {
    "num_replicas": 1,
    "availability_model": AvailabilityModel.DEDICATED,
}


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LocalAddresses:
    """Where the trainer and the sampler answer."""

    trainer_url: str
    sampler_url: str

    @classmethod
    def of(cls, url: str) -> LocalAddresses:
        """Return the two addresses of a `local:` URL.

        Raises:
            UsageError: one is missing, given twice, or no HTTP address.
        """
        given = parse_qs(urlsplit(url).query, keep_blank_values=True)
        if given.keys() != {"trainer_url", "sampler_url"}:
            raise UsageError(
                f"base_url {url!r} must be local:?trainer_url=...&sampler_url=...", field="base_url"
            )
        return cls(**{name: _http_url(name, values) for name, values in given.items()})


def _http_url(name: str, values: list[str]) -> str:
    parts = urlsplit(values[0])
    if len(values) != 1 or parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{name} must be one http://HOST:PORT/..., not {values}", field=name)
    return values[0].rstrip("/")


@final
class LocalTransport:
    """Carries calls to one trainer and one sampler, and stands in for the service around them.

    Creating a trainer or a sampler gives the one that is there. Whatever else only a service can
    answer is refused by name.
    """

    def __init__(self, inner: Transport, addresses: LocalAddresses) -> None:
        """Carry calls over `inner`, which is closed with this transport."""
        self._inner = inner
        self._addresses = addresses

    def body_limits(self, base_url: str | None) -> BodyLimits:
        """Return how large a body sent to one of the two may be."""
        return self._inner.body_limits(base_url)

    @property
    def repeats_creates(self) -> bool:
        """Return True: nothing is made here, it is there already."""
        return True

    def heartbeat_s(self, base_url: str | None) -> float | None:
        """Return how often the trainer wants a sign of life."""
        return self._inner.heartbeat_s(base_url)

    def send(self, call: Call[ReplyT]) -> ReplyT:
        """Return the reply of trainer or sampler, or the one that a service would give."""
        if call.route.service != "control":
            return self._inner.send(_without_ids(call))
        listing = self._inner.send(self._models()) if _needs_model(call) else None
        return cast("ReplyT", self._answer(call, listing))

    async def send_async(self, call: Call[ReplyT]) -> ReplyT:
        """Do what `send` does without blocking the event loop."""
        if call.route.service != "control":
            return await self._inner.send_async(_without_ids(call))
        listing = await self._inner.send_async(self._models()) if _needs_model(call) else None
        return cast("ReplyT", self._answer(call, listing))

    def download(self, url: str, target: Path, *, size_bytes: int) -> None:
        """Read a link, where somebody has one."""
        self._inner.download(url, target, size_bytes=size_bytes)

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    def _models(self) -> Call[ModelListing]:
        return Call(route=routes.LIST_MODELS, base_url=self._addresses.sampler_url)

    def _answer(self, call: Call[Any], listing: ModelListing | None) -> WireModel:
        match call.body:
            case CreateTrainerBody() as body:
                _refuse_others(body, _CARRIED, {})
                return RunReply(run=self._run(body))
            case CreateSamplerBody() as body:
                _refuse_others(body, _KNOWN, _OF_ANY_SAMPLER)
                return SamplerReply(sampler=self._sampler(body, listing))
            case _ if call.route == routes.CREATE_SESSION:
                return SessionReply(session=Session(id=_ID))
            case _ if call.route == routes.VALIDATE_CHECKPOINT:
                return Empty()  # the sampler knows, and says so with the first sample
            case _:
                raise UnsupportedError(
                    f"{call.route.name} needs a service: ServiceClient.local has a trainer and a "
                    "sampler only; ServiceClient(base_url=) opens a service"
                )

    def _run(self, body: CreateTrainerBody) -> Run:
        return Run(
            id="",
            session_id=_ID,
            base_model=body.base_model,
            base_url=self._addresses.trainer_url,
        )

    def _sampler(self, body: CreateSamplerBody, listing: ModelListing | None) -> SamplerRecord:
        base_model = body.base_model
        if listing is not None:
            base_model = next((card.id for card in listing.data if card.parent is None), None)
        if base_model is None:
            raise NotFoundError("the sampler serves no base model", kind="model")
        return SamplerRecord(id=_ID, base_url=self._addresses.sampler_url, base_model=base_model)


def _needs_model(call: Call[Any]) -> bool:
    return isinstance(call.body, CreateSamplerBody) and call.body.base_model is None


def _refuse_others(
    body: WireModel, allowed: frozenset[str], harmless: Mapping[str, object]
) -> None:
    """Refuse what the caller asks for and nobody here could be told."""
    for name, declared in type(body).model_fields.items():
        value = getattr(body, name)
        if name in allowed or value == declared.default or value == harmless.get(name, declared):
            continue
        raise UnsupportedError(
            f"{name}={value!r} cannot be asked of a trainer or a sampler without its service: "
            "leave it out",
            field=name,
        )


def _without_ids(call: Call[ReplyT]) -> Call[ReplyT]:
    """Return the call without the sampler's id, which only this side knows."""
    pin = call.pin
    if pin.sampler_id is None:
        return call
    kept = SamplerPin(
        checkpoint_path=pin.checkpoint_path, min_policy_version=pin.min_policy_version
    )
    return dataclasses.replace(call, pin=kept)
