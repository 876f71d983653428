"""The ASGI application: the table of routes over one service."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, Final, TypeVar, final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as WebRoute

from loops_core.errors import LoopsError, NotFoundError, UnreachableError, UsageError
from loops_core.types import routes
from loops_core.types.routes import Call, Route
from loops_core.worker.service import Service
from loops_transport_http.server.features import FeaturesHeader
from loops_transport_http.server.files import FileLinks
from loops_transport_http.server.keys import KeyRing
from loops_transport_http.server.local import LocalRuns
from loops_transport_http.server.reading import LOCAL, BodyReader, read_body, read_call
from loops_transport_http.server.refusals import Refused
from loops_transport_http.server.replies import with_addresses, write_refusal, write_reply
from loops_transport_http.server.settings import ServerSettings

_log = logging.getLogger(__name__)

T = TypeVar("T")

_CREATES: Final = (routes.CREATE_SESSION, routes.CREATE_TRAINER, routes.CREATE_SAMPLER)
_HELD: Final = frozenset({routes.RETRIEVE.name, routes.POLL.name, routes.SAMPLE.name})


@final
class Front:
    """Answers requests with the service's answers.

    Attributes:
        closing: set when the server is about to end: held polls are answered at once.
    """

    def __init__(
        self, service: Service, keys: KeyRing, links: FileLinks, settings: ServerSettings
    ) -> None:
        """Answer for `service`, to those who have a key."""
        self._service = service
        self._keys = keys
        self._links = links
        self._settings = settings
        self._reader = BodyReader(settings)
        self._local = LocalRuns(service)
        self.closing = asyncio.Event()

    def app(self) -> Starlette:
        """Return the application; its shutdown closes the service."""
        return Starlette(
            routes=[
                *self._web_routes(),
                WebRoute("/health", self._alive, methods=["GET"]),
                WebRoute("/files/{token}/{leaf}", self._file, methods=["GET", "HEAD"]),
            ],
            middleware=[Middleware(FeaturesHeader, settings=self._settings)],
            exception_handlers={HTTPException: _http_error, Exception: _broken},
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncGenerator[None]:
        yield
        await asyncio.to_thread(self._service.close)

    def _web_routes(self) -> list[WebRoute]:
        found: list[WebRoute] = []
        for route in routes.ROUTES:
            base = {"control": "", "trainer": "/trainers/{trainer_id}"}.get(
                route.service, "/samplers/{sampler_id}"
            )
            found.append(self._web_route(base + route.path, route))
        for route in _CREATES:
            path = route.path.replace("/v1/loops", "/v1/teams/{team_id}/loops")
            found.append(self._web_route(path, route))
        return found

    def _web_route(self, path: str, route: Route[Any]) -> WebRoute:
        async def endpoint(request: Request) -> Response:
            try:
                return await self._answer(request, route)
            except (LoopsError, Refused) as error:
                return write_refusal(error)

        return WebRoute(path, endpoint, methods=[route.method], name=route.name)

    async def _answer(self, request: Request, route: Route[Any]) -> Response:
        owner = self._keys.owner_of(request.headers.get("authorization"))
        _check_team(request, owner)
        async with self._reader.body(request) as content:
            body = await read_body(request, content, route, self._settings.max_body_bytes)
            del content
            call = await self._localised(read_call(request, route, body), owner)
            if route.name not in _HELD:
                return await self._reply(call, request, owner)
        answer = self._reply(call, request, owner)
        return await self._while_there(request, answer, is_poll=route is not routes.SAMPLE)

    async def _reply(self, call: Call[Any], request: Request, owner: str) -> Response:
        reply = await self._service.handle_async(call, owner=owner)
        return write_reply(
            call, with_addresses(reply, self._root_url(request), self._links.sign), request
        )

    async def _localised(self, call: Call[Any], owner: str) -> Call[Any]:
        """Return the call with the ids that `local` stands for."""
        if call.route.service == "trainer" and call.run_id == LOCAL:
            return dataclasses.replace(call, run_id=await self._local.run_id(call, owner))
        if call.route.service == "sampler" and call.pin.sampler_id == LOCAL:
            pin = dataclasses.replace(call.pin, sampler_id=await self._local.sampler_id(owner))
            return dataclasses.replace(call, pin=pin)
        return call

    async def _while_there(
        self, request: Request, answer: Awaitable[Response], *, is_poll: bool
    ) -> Response:
        """Return the answer; let go of it when the client has gone or the server is ending."""
        working = asyncio.ensure_future(answer)
        gone = asyncio.ensure_future(_disconnected(request))
        ending = asyncio.ensure_future(self.closing.wait())
        try:
            watched = {working, gone, ending} if is_poll else {working, gone}
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if gone.done():
                raise UnreachableError("the client has gone while it waited")
            return Response(status_code=408)
        finally:
            for task in (working, gone, ending):
                task.cancel()

    def _root_url(self, request: Request) -> str:
        if self._settings.public_url is not None:
            return self._settings.public_url.rstrip("/")
        return str(request.base_url).rstrip("/")

    async def _alive(self, _request: Request) -> Response:
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def _file(self, request: Request) -> Response:
        try:
            return await asyncio.to_thread(self._links.answer, request)
        except (LoopsError, Refused) as error:
            return write_refusal(error)


def _check_team(request: Request, owner: str) -> None:
    team_id = request.path_params.pop("team_id", owner)
    if team_id != owner:
        raise NotFoundError(
            f"team_id {team_id!r}: there is no such team", kind="team", name=team_id
        )


async def _disconnected(request: Request) -> None:
    """Return when the client has closed its connection."""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        refusal: LoopsError = NotFoundError(
            f"{request.method} {request.url.path}: there is no such route", kind="route"
        )
    else:
        refusal = UsageError(f"{request.method} {request.url.path}: {error.detail}")
    response = write_refusal(refusal)
    response.status_code = error.status_code
    if error.headers:
        response.headers.update(error.headers)
    return response


async def _broken(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return write_refusal(LoopsError("the service failed; its log says more"))
