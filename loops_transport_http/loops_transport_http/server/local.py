"""The implicit run of clients that have no control plane, one for each owner."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, Final, final

from loops_core.errors import NotFoundError, UsageError
from loops_core.types import routes
from loops_core.types.deployment import CreateSamplerBody, CreateTrainerBody
from loops_core.types.operation import InitTrainerServerBody
from loops_core.types.routes import Call, SamplerPin
from loops_core.worker.service import Service
from loops_transport_http.server.calls import LOCAL

_KEY: Final = "local-run"


@final
class LocalRuns:
    """Finds an owner's local run and its sampler, and makes them when the run is initialised."""

    def __init__(self, service: Service) -> None:
        """Use the service's own calls."""
        self._service = service
        self._lock = asyncio.Lock()
        self._found: dict[str, tuple[str, str]] = {}

    async def run_id(self, call: Call[Any], owner: str) -> str:
        """Return the run that a trainer call below `/trainers/local` is for.

        Raises:
            NotFoundError: there is none yet, and the call is not the one that makes it.
        """
        run_id, _ = await self._ids(call.body, owner)
        return run_id

    async def pin(self, pin: SamplerPin, owner: str) -> SamplerPin:
        """Return the pin with the owner's local run and its paired sampler; raises as `run_id`."""
        run_id, sampler_id = await self._ids(None, owner)
        return dataclasses.replace(pin, run_id=run_id, sampler_id=sampler_id)

    async def is_waiting(self, call: Call[Any], owner: str) -> bool:
        """Tell whether a call asks how a local trainer is that nothing was asked of so far."""
        if call.route != routes.HEALTH or call.run_id != LOCAL:
            return False
        async with self._lock:
            return owner not in self._found and await self._existing(owner) is None

    async def _ids(self, body: object, owner: str) -> tuple[str, str]:
        async with self._lock:
            if isinstance(body, InitTrainerServerBody) and await self._existing(owner) is None:
                self._found.pop(owner, None)  # it was deactivated
            if owner not in self._found:
                session_id = await self._session(owner)
                run_id = await self._existing(owner)
                if run_id is None:
                    run_id = await self._make(body, session_id, owner)
                wanted = CreateSamplerBody(session_id=session_id, run_id=run_id)
                call = Call(route=routes.CREATE_SAMPLER, body=wanted)
                reply = await self._service.handle_async(call, owner=owner)
                self._found[owner] = (run_id, reply.sampler.id)
            return self._found[owner]

    async def _session(self, owner: str) -> str:
        call = Call(route=routes.CREATE_SESSION, idempotency_key=_KEY)
        return (await self._service.handle_async(call, owner=owner)).session.id

    async def _existing(self, owner: str) -> str | None:
        listing = await self._service.handle_async(Call(route=routes.LIST_RUNS), owner=owner)
        alive = (
            run.id for run in listing.runs if run.status.name == "ACTIVE" and run.name == LOCAL
        )
        return next(alive, None)

    async def _make(self, body: object, session_id: str, owner: str) -> str:
        if not isinstance(body, InitTrainerServerBody):
            raise NotFoundError(
                "there is no local run yet: init_trainer_server makes it", kind="run", name=LOCAL
            )
        offered = await self._service.handle_async(Call(route=routes.GET_CAPABILITIES), owner=owner)
        names = [model.model_name for model in offered.supported_models]
        base_model = body.base_model or next(iter(names), None)
        if base_model is None:
            raise UsageError("this service serves no model", field="base_model")
        wanted = CreateTrainerBody(
            session_id=session_id, base_model=base_model, lora_rank=body.lora_rank, name=LOCAL
        )
        call = Call(route=routes.CREATE_TRAINER, body=wanted)
        return (await self._service.handle_async(call, owner=owner)).run.id
