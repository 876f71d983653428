"""A server with one defect on the wire: requests or answers are changed on their way."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Json = dict[str, Any]


@dataclass(slots=True)
class Exchange:
    """A request and its answer, on their way.

    Attributes:
        method: of the request.
        path: of the request.
        asked: the request's headers, by lower-case name.
        asked_body: the request's body.
        status: of the answer.
        headers: the answer's, by lower-case name.
        body: the answer's.
    """

    method: str
    path: str
    asked: dict[str, str]
    asked_body: bytes
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""

    @property
    def is_submit(self) -> bool:
        """Tell whether an operation is handed over."""
        return self.method == "POST" and bool(re.fullmatch(r"/trainers/\w+/\w+", self.path))

    @property
    def is_poll(self) -> bool:
        """Tell whether a result is asked for."""
        return self.method == "GET" and "/operations/" in self.path

    def edit(self, change: Callable[[Json], object]) -> None:
        """Change the answer's JSON object, where it is one."""
        if self.body.startswith(b"{"):
            found: Json = json.loads(self.body)
            change(found)
            self.body = json.dumps(found).encode()

    def edit_asked(self, change: Callable[[Json], object]) -> None:
        """Change the request's JSON object, where it is one."""
        if self.asked_body.startswith(b"{"):
            found: Json = json.loads(self.asked_body)
            change(found)
            self.asked_body = json.dumps(found).encode()


Change = Callable[[Exchange], object]


@dataclass(frozen=True, slots=True)
class Defect:
    """What is wrong.

    Attributes:
        before: changes the request.
        after: changes the answer.
    """

    before: Change | None = None
    after: Change | None = None


NONE: Final = Defect()


class Defective:
    """An application around another that has the defect of the moment."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.defect = NONE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self.defect is NONE:
            await self._app(scope, receive, send)
            return
        exchange = Exchange(
            method=scope["method"],
            path=scope["path"],
            asked={k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]},
            asked_body=await _read(receive),
        )
        if self.defect.before is not None:
            self.defect.before(exchange)
        await self._answer(exchange, scope, receive)
        if self.defect.after is not None:
            self.defect.after(exchange)
        exchange.headers["content-length"] = str(len(exchange.body))
        headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in exchange.headers.items()]
        start = {"type": "http.response.start", "status": exchange.status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": exchange.body})

    async def _answer(self, exchange: Exchange, scope: Scope, receive: Receive) -> None:
        sent = False

        async def give() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": exchange.asked_body, "more_body": False}

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                exchange.headers = {
                    k.decode("latin-1").lower(): v.decode("latin-1") for k, v in message["headers"]
                }
            else:
                exchange.body += message.get("body", b"")

        exchange.asked["content-length"] = str(len(exchange.asked_body))
        headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in exchange.asked.items()]
        await self._app({**scope, "headers": headers}, give, keep)


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body
