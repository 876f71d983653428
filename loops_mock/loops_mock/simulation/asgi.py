"""The faults of a plan over real HTTP: an ASGI middleware around any server of the protocol."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, final

from loops_core.clock import Clock, SystemClock
from loops_mock.simulation.faults import (
    Delay,
    DropRequest,
    Duplicate,
    Fault,
    FaultPlan,
    LoseAnswer,
    PlanRun,
    Reorder,
    Status,
    Truncate,
)
from loops_mock.simulation.naming import route_name

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_BROKEN_HEAD: Final[Message] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-length", b"1"), (b"connection", b"close")],
}
"""The head of an answer that no body follows: its reader finds the connection broken."""


_ANSWERS: Final = (DropRequest, LoseAnswer, Status, Truncate)
"""Faults that say what the answer is: the first of several counts."""


@final
class FaultyApp:
    """An ASGI app in front of another one that does to its requests what a plan says.

    Requests count per route of the protocol, as in a simulated world; what is no request of the
    protocol passes. Of a plan's faults only those of messages happen: a server's death, its disk
    and its clock are not an app's to change.

    Attributes:
        run: the count of calls so far, and which of them met a fault.
    """

    def __init__(self, app: App, plan: FaultPlan, *, clock: Clock | None = None) -> None:
        """Stand in front of `app`.

        Args:
            app: any ASGI app.
            plan: what happens to which call.
            clock: waits for what is late; None = the machine's clock.
        """
        self.run: PlanRun = plan.begin()
        self._app = app
        self._clock = clock or SystemClock()
        self._overtaken = asyncio.Event()
        self._again: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass on whatever else a server sends."""
        name = None
        if scope["type"] == "http":
            name = route_name(scope["method"], scope["path"])
        if name is None:
            await self._app(scope, receive, send)
            return
        faults = self.run.meet(name)
        self._overtaken.set()  # one more request has come: those behind it in the plan go on
        for fault in faults:
            match fault:
                case Delay():
                    await self._clock.sleep_async(fault.seconds)
                case Reorder():
                    await self._wait_for_next(fault.seconds)
                case Duplicate():
                    receive = await self._repeat(fault, scope, receive)
                case _:
                    pass
        answers = (fault for fault in faults if isinstance(fault, _ANSWERS))
        await self._answer(next(answers, None), scope, receive, send)

    async def _answer(
        self, fault: Fault | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        match fault:
            case DropRequest():
                await self._break(fault.seconds, send)
            case LoseAnswer():
                await self._app(scope, receive, _nowhere)
                await self._break(fault.seconds, send)
            case Status():
                if fault.reached:
                    await self._app(scope, receive, _nowhere)
                await _refuse(fault, send)
            case Truncate():
                await self._app(scope, receive, _Cut(send, fault.share))
            case _:
                await self._app(scope, receive, send)

    async def _break(self, seconds: float, send: Send) -> None:
        """Let the caller find its connection broken: the server closes it without a body."""
        await self._clock.sleep_async(seconds)
        await send(dict(_BROKEN_HEAD))

    async def _wait_for_next(self, seconds: float) -> None:
        self._overtaken.clear()
        timer = asyncio.ensure_future(self._clock.sleep_async(seconds))
        event = asyncio.ensure_future(self._overtaken.wait())
        try:
            await asyncio.wait({timer, event}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            event.cancel()

    async def _repeat(self, fault: Duplicate, scope: Scope, receive: Receive) -> Receive:
        """Send the request twice; return what the first of the two reads."""
        body = await _read(receive)
        first, second = _Replay(body, receive), _Replay(body, None)

        async def again() -> None:
            await self._clock.sleep_async(fault.seconds)
            await self._app(dict(scope), second, _nowhere)

        task = asyncio.ensure_future(again())
        self._again.add(task)
        task.add_done_callback(self._again.discard)
        return first


@final
class _Cut:
    """A way back on which an answer breaks off in its body."""

    def __init__(self, inner: Send, share: float) -> None:
        self._inner = inner
        self._share = share
        self._has_ended = False

    async def __call__(self, message: Message) -> None:
        """Pass the head on, and of the body its first part."""
        if message["type"] != "http.response.body":
            await self._inner(message)
            return
        if self._has_ended:
            return
        self._has_ended = True
        body: bytes = message.get("body", b"")
        kept = body[: math.floor(len(body) * self._share)]
        await self._inner({"type": "http.response.body", "body": kept, "more_body": True})


@final
class _Replay:
    """Reads a body that was read before; then what the caller does, or nothing any more."""

    def __init__(self, body: bytes, behind: Receive | None) -> None:
        self._body: bytes | None = body
        self._behind = behind

    async def __call__(self) -> Message:
        """Return the body at once, and later the end of the connection."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        if self._behind is None:
            await asyncio.get_running_loop().create_future()  # cancelled with the request
        assert self._behind is not None
        return await self._behind()


async def _read(receive: Receive) -> bytes:
    pieces: list[bytes] = []
    while True:
        message = await receive()
        pieces.append(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return b"".join(pieces)


async def _refuse(fault: Status, send: Send) -> None:
    body = f"a planned {fault.code}".encode()
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"text/plain")]
    if fault.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(fault.retry_after_s)))
    await send({"type": "http.response.start", "status": fault.code, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _nowhere(message: Message) -> None:
    """Hear an answer that nobody waits for."""
