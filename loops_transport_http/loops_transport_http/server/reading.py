"""Reading requests: a body within its bounds, and the call that a request means."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final, final

from starlette.requests import ClientDisconnect, Request

from loops_core.errors import BusyError, UnreachableError, UsageError
from loops_core.types.base import WireModel
from loops_core.types.operation import OperationBody
from loops_core.types.routes import BatchPart, Call, Route, SamplerPin
from loops_transport_http.server.refusals import Refused
from loops_transport_http.server.settings import ServerSettings
from loops_transport_http.wire import bodies, names

LOCAL: Final = "local"
"""The run, and its sampler, of clients that have no control plane."""

_SMALL_BODY: Final = 64 * 1024
"""Up to this many bytes a body is read in less time than handing it to a thread takes."""


@final
class BodyReader:
    """Reads bodies, so many bytes at once and no more."""

    def __init__(self, settings: ServerSettings) -> None:
        """Start with all room free."""
        self._settings = settings
        self._used = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncGenerator[bytes]:
        """Give the request's body, whose room is taken while the block runs.

        Raises:
            Refused: (413) it is over the bound.
            BusyError: there was no room, or the client was too slow.
            UnreachableError: the client has gone.
        """
        size = self._announced(request)
        async with self._room(size):
            try:
                async with asyncio.timeout(self._settings.body_timeout_s):
                    yield await self._read(request)
            except ClientDisconnect as error:
                raise UnreachableError("the client has gone while it sent the body") from error

    def _announced(self, request: Request) -> int:
        text = request.headers.get("content-length", "0")
        size = int(text) if text.isascii() and text.isdigit() else self._settings.max_body_bytes
        if "transfer-encoding" in request.headers:
            size = self._settings.max_body_bytes
        self._check(size)
        return size

    async def _read(self, request: Request) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in request.stream():
            size += len(part)
            self._check(size)
            parts.append(part)
        return b"".join(parts)

    def _check(self, size: int) -> None:
        bound = self._settings.max_body_bytes
        if size > bound:
            error = UsageError(
                f"body has more than {bound} bytes: send the data in several calls", field="body"
            )
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error)

    @asynccontextmanager
    async def _room(self, size: int) -> AsyncGenerator[None]:
        bound = self._settings.max_reading_bytes
        async with self._changed:
            try:
                async with asyncio.timeout(self._settings.room_wait_s):
                    await self._changed.wait_for(
                        lambda: not self._used or self._used + size <= bound
                    )
            except TimeoutError as error:
                raise BusyError(
                    f"bodies of {self._used} bytes are being read: there was no room for {size} "
                    "more; repeat the call later with the same idempotency key",
                    retry_after_s=2.0,
                ) from error
            self._used += size
        try:
            yield
        finally:
            async with self._changed:
                self._used -= size
                self._changed.notify_all()


async def read_body(
    request: Request, content: bytes, route: Route[Any], bound: int
) -> WireModel | None:
    """Return the body of a route's type; off the event loop where it is large."""
    body_type = route.body_type
    if body_type is None:
        return None
    encoding = request.headers.get("content-encoding", "").strip().lower()
    media_type = request.headers.get("content-type", "")

    def parse() -> WireModel:
        plain = content
        if encoding == bodies.ZSTD:
            plain = bodies.decompress(content, max_bytes=bound)
        elif encoding not in ("", "identity"):
            raise UsageError(
                f"Content-Encoding {encoding!r} is not read here: expected zstd or none",
                field="Content-Encoding",
            )
        return bodies.decode(plain, body_type, media_type=media_type)

    if len(content) <= _SMALL_BODY and encoding != bodies.ZSTD:
        return parse()
    return await asyncio.to_thread(parse)


def read_call(request: Request, route: Route[Any], body: WireModel | None) -> Call[Any]:
    """Return the call that a request along the route means.

    Raises:
        UsageError: a header or a path is not what it should be.
    """
    path_args = {name: str(value) for name, value in request.path_params.items()}
    headers = request.headers
    run_id = headers.get(names.RUN_ID)
    if route.service == "trainer":
        named = path_args.pop("trainer_id")
        if named == LOCAL and isinstance(body, OperationBody):
            body = body.model_copy(update={"run_id": None})
        run_id = _agreed(named, run_id)
    return Call(
        route=route,
        path_args=path_args,
        query=dict(request.query_params),
        body=body,
        run_id=run_id,
        idempotency_key=headers.get(names.IDEMPOTENCY_KEY),
        pin=_pin(request, path_args) if route.service == "sampler" else SamplerPin(),
        part=_part(headers.get(names.PART)),
        affinity_key=headers.get(names.AFFINITY_KEY),
        hold_s=_hold_s(headers.get(names.HOLD)),
    )


def _agreed(named: str, told: str | None) -> str:
    if named != LOCAL and told not in (None, named):
        raise UsageError(
            f"{names.RUN_ID} is {told!r}, but the address is that of run {named!r}",
            field=names.RUN_ID,
        )
    return named


def _pin(request: Request, path_args: dict[str, str]) -> SamplerPin:
    headers = request.headers
    sampler_id = path_args.pop("sampler_id")
    return SamplerPin(
        run_id=None if sampler_id == LOCAL else headers.get(names.RUN_ID),
        sampler_id=sampler_id,
        checkpoint_path=headers.get(names.CHECKPOINT_PATH),
        min_policy_version=_whole(names.MIN_POLICY_VERSION, headers.get(names.MIN_POLICY_VERSION)),
    )


def _whole(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{name} must be a whole number, not {text!r}", field=name)
    return int(text)


def _hold_s(text: str | None) -> float:
    if text is None:
        return names.LONGEST_HOLD_S
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise UsageError(f"{names.HOLD} must be seconds >= 0, not {text!r}", field=names.HOLD)
    return min(seconds, names.LONGEST_HOLD_S)


def _part(text: str | None) -> BatchPart | None:
    if text is None:
        return None
    index, slash, count = text.partition("/")
    if not slash or not (index.isdecimal() and count.isdecimal()):
        raise UsageError(f"{names.PART} must be INDEX/COUNT, not {text!r}", field=names.PART)
    return BatchPart(int(index), int(count))
