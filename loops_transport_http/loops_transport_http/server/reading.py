"""Reading bodies: so many bytes at once, so slow and no slower, and large ones on threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final, final

from starlette.requests import ClientDisconnect, Request

from loops_core.errors import BusyError, UnreachableError, UsageError
from loops_core.types.base import WireModel
from loops_core.types.routes import Route
from loops_transport_http.server.batches import read_batch
from loops_transport_http.server.refusals import Refused
from loops_transport_http.server.settings import ServerSettings
from loops_transport_http.wire import bodies, names

SMALL_BYTES: Final = 64 * 1024
"""Up to this many bytes a body needs no room, and is read in less time than a thread costs."""

_THREADS: Final = 2
"""How many large bodies are read at once; more would wait for the interpreter anyway."""

_LARGE_BYTES: Final = 1024 * 1024
"""From here on a JSON batch is read in pieces: it takes twice as long, and stops nobody else."""

_JSON: Final = ("", names.JSON)
_RETRY_AFTER_S: Final = 2.0


@final
class BodyReader:
    """Reads bodies on one event loop, with a bound on the bytes that are in memory at once."""

    def __init__(self, settings: ServerSettings) -> None:
        """Start with all room free."""
        self._settings = settings
        self._used = 0
        self._changed = asyncio.Condition()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="loops-body")

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def body(self, request: Request, route: Route[Any]) -> AsyncGenerator[WireModel | None]:
        """Give the body as the route's type; its room is taken for as long as the block runs.

        Raises:
            UsageError: it is not of this type; the field is named.
            Refused: (413) it is over the bound.
            BusyError: there was no room, or the client was too slow.
            UnreachableError: the client has gone.
        """
        if route.body_type is None:
            yield None
            return
        encoding = request.headers.get("content-encoding", "").strip().lower()
        size = self._announced(request)
        if encoding == bodies.ZSTD:  # what it will be, once decompressed
            size = self._settings.max_body_bytes
        if size <= SMALL_BYTES:
            yield await self._model(request, route.body_type, encoding)
            return
        await self._take_room(size)
        try:
            yield await self._model(request, route.body_type, encoding)
        finally:
            await asyncio.shield(self._give_room(size))

    async def _model(
        self, request: Request, body_type: type[WireModel], encoding: str
    ) -> WireModel:
        content = await self._read(request)
        media_type = request.headers.get("content-type", "")
        if len(content) <= SMALL_BYTES and encoding != bodies.ZSTD:
            return self._parse(content, body_type, encoding, media_type)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, self._parse, content, body_type, encoding, media_type
        )

    def _parse(
        self, content: bytes, body_type: type[WireModel], encoding: str, media_type: str
    ) -> WireModel:
        if encoding == bodies.ZSTD:
            content = bodies.decompress(content, max_bytes=self._settings.max_body_bytes)
        elif encoding not in ("", "identity"):
            raise UsageError(
                f"Content-Encoding {encoding!r} is not read here: expected zstd or none",
                field="Content-Encoding",
            )
        if len(content) > _LARGE_BYTES and media_type.partition(";")[0].strip() in _JSON:
            batch = read_batch(content, body_type)
            if batch is not None:
                return batch
        return bodies.decode(content, body_type, media_type=media_type)

    def _announced(self, request: Request) -> int:
        """Return the body's size as its headers tell it; the largest there is if they do not."""
        text = request.headers.get("content-length")
        if text is None:
            is_chunked = "transfer-encoding" in request.headers
            return self._settings.max_body_bytes if is_chunked else 0
        size = int(text)  # the parser refuses anything but digits
        self._check(size)
        return size

    async def _read(self, request: Request) -> bytes:
        """Return the body's bytes, from a client that sends them fast enough."""
        parts: list[bytes] = []
        size = 0
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        allowed_s = self._settings.body_timeout_s
        try:
            async with asyncio.timeout_at(start_s + allowed_s) as limit:
                async for part in request.stream():
                    size += len(part)
                    self._check(size)
                    parts.append(part)
                    more_s = size / self._settings.least_bytes_per_s
                    limit.reschedule(start_s + allowed_s + more_s)
        except ClientDisconnect as error:
            raise UnreachableError("the client has gone while it sent the body") from error
        except TimeoutError as error:
            waited_s = loop.time() - start_s
            late = BusyError(f"body: only {size} bytes of it arrived in {waited_s:.0f} s")
            close = {"Connection": "close"}
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, late, headers=close) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _check(self, size: int) -> None:
        bound = self._settings.max_body_bytes
        if size > bound:
            error = UsageError(
                f"body has more than {bound} bytes: send the data in several calls", field="body"
            )
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error)

    async def _take_room(self, size: int) -> None:
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
                    retry_after_s=_RETRY_AFTER_S,
                ) from error
            self._used += size

    async def _give_room(self, size: int) -> None:
        async with self._changed:
            self._used -= size
            self._changed.notify_all()
