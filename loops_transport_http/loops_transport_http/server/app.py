"""The ASGI application: the table of routes over one service."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
from http import HTTPStatus
from typing import Any, Final, final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from loops_core.errors import LoopsError, NotFoundError, ServerShutdownError, UnreachableError
from loops_core.types import routes
from loops_core.types.deployment import Empty
from loops_core.types.routes import Call
from loops_core.worker.service import Service
from loops_transport_http.server.calls import LOCAL, read_call
from loops_transport_http.server.features import features_header
from loops_transport_http.server.files import FileLinks
from loops_transport_http.server.keys import KeyRing
from loops_transport_http.server.local import LocalRuns
from loops_transport_http.server.loopback import check_local
from loops_transport_http.server.paths import TEAM_ID, Found, PathTable
from loops_transport_http.server.public import PublicPages
from loops_transport_http.server.reading import BodyReader
from loops_transport_http.server.refusals import Refused
from loops_transport_http.server.replies import ReplyWriter, with_addresses, write_refusal
from loops_transport_http.server.settings import ServerSettings

_log = logging.getLogger(__name__)

_QUICK_S: Final = 0.002
"""Who is answered within this time needs nobody to watch whether their client is still there."""

_HOST: Final = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_POLLS: Final = frozenset({routes.RETRIEVE.name, routes.POLL.name})
_HELD: Final = _POLLS | {routes.SAMPLE.name}
"""Routes whose answers may take long: they end when their client has gone."""


@final
class Front:
    """Answers requests with the service's answers; an ASGI application.

    Attributes:
        settings: its bounds.
        closing: set when the server is about to end: who waits is answered at once.
    """

    def __init__(
        self, service: Service, keys: KeyRing, links: FileLinks, settings: ServerSettings
    ) -> None:
        """Answer for `service`, to those who have a key."""
        self._service = service
        self._keys = keys
        self._links = links
        self.settings = settings
        self._reader = BodyReader(settings)
        self._writer = ReplyWriter()
        self._local = LocalRuns(service)
        self._paths = PathTable()
        self._public = PublicPages(links)
        self._features = features_header(settings)
        self.closing = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server's life."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            request = Request(scope, receive)
            response = await self._respond(request)
            response.raw_headers.append(self._features)
            await response(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.to_thread(self.close)
        await send({"type": "lifespan.shutdown.complete"})

    def close(self) -> None:
        """Finish what runs, and close the service and the threads; may be called twice."""
        self._service.close()
        self._reader.close()
        self._writer.close()

    async def _respond(self, request: Request) -> Response:
        try:
            raw_path = request.scope.get("raw_path") or request.scope["path"].encode()
            path = raw_path.decode("ascii", "replace")
            page = await self._public.answer(path, request)
            if page is not None:
                return page
            return await self._answer(request, path)
        except (LoopsError, Refused) as error:
            return write_refusal(error)
        except Exception:  # noqa: BLE001  # whatever failed, the caller gets an answer
            _log.exception("%s %s failed", request.method, request.scope["path"])
            return write_refusal(LoopsError("the service failed; its log says more"))

    async def _answer(self, request: Request, path: str) -> Response:
        found = self._paths.find(request.method, path)
        if self._keys.is_open:
            check_local(request, self.settings.public_url)
        owner = self._keys.owner_of(request.headers.get("authorization"))
        if self.closing.is_set():
            return _late_answer(found.route.name)
        _check_team(found, owner)
        async with self._reader.body(request, found.route) as body:
            call = read_call(request, found, body)
            if await self._local.is_waiting(call, owner):
                return await self._writer.write(call, Empty(), request)
            call = await self._localised(call, owner)
            if found.route.name not in _HELD:
                return await self._reply(call, request, owner)
        return await self._while_there(call, request, owner)

    async def _reply(self, call: Call[Any], request: Request, owner: str) -> Response:
        reply = await self._service.handle_async(call, owner=owner)
        shown = with_addresses(reply, lambda: self._root_url(request), self._links.sign)
        return await self._writer.write(call, shown, request)

    async def _localised(self, call: Call[Any], owner: str) -> Call[Any]:
        """Return the call with the ids that `local` stands for."""
        if call.route.service == "trainer" and call.run_id == LOCAL:
            return dataclasses.replace(call, run_id=await self._local.run_id(call, owner))
        if call.route.service == "sampler" and call.pin.sampler_id == LOCAL:
            return dataclasses.replace(call, pin=await self._local.pin(call.pin, owner))
        return call

    async def _while_there(self, call: Call[Any], request: Request, owner: str) -> Response:
        """Return the answer; let go of it when the client has gone or the server is ending."""
        working = asyncio.ensure_future(self._reply(call, request, owner))
        try:
            await asyncio.wait({working}, timeout=_QUICK_S)
        except asyncio.CancelledError:
            working.cancel()
            raise
        if working.done():
            return working.result()
        gone = asyncio.ensure_future(_disconnected(request))
        ending = asyncio.ensure_future(self.closing.wait())
        try:
            await asyncio.wait({working, gone, ending}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if gone.done():
                raise UnreachableError("the client has gone while it waited")
            return _late_answer(call.route.name)
        finally:
            for task in (working, gone, ending):
                task.cancel()

    def _root_url(self, request: Request) -> str:
        if self.settings.public_url is not None:
            return self.settings.public_url.rstrip("/")
        host = request.headers.get("host", "")
        if not _HOST.fullmatch(host):
            name, port = request.scope["server"]
            host = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
        return f"{request.scope['scheme']}://{host}{request.scope.get('root_path', '')}"


def _late_answer(route_name: str) -> Response:
    """Return the answer to a poll once the server is ending: nothing yet, ask again.

    Published clients then ask whoever comes next at this address; from a poll they would take a
    refusal as the operation's end.

    Raises:
        ServerShutdownError: the request is no poll.
    """
    if route_name not in _POLLS:
        raise ServerShutdownError("the server is ending")
    return Response(status_code=HTTPStatus.REQUEST_TIMEOUT, headers={"Connection": "close"})


def _check_team(found: Found, owner: str) -> None:
    team_id = found.path_args.pop(TEAM_ID, owner)
    if team_id != owner:
        raise NotFoundError(
            f"team_id {team_id!r}: there is no such team", kind="team", name=team_id
        )


async def _disconnected(request: Request) -> None:
    """Return when the client has closed its connection."""
    while True:
        message: Message = await request.receive()
        if message["type"] == "http.disconnect":
            return
