"""What is answered without a key: that the server is there, its description, signed links."""

from __future__ import annotations

import asyncio
import json
from typing import Final, final

from starlette.requests import Request
from starlette.responses import Response

from loops_transport_http.server.files import FileLinks
from loops_transport_http.server.paths import no_method
from loops_transport_http.wire import names

_FILES: Final = "/files/"
_FILE_SEGMENTS: Final = 2


@final
class PublicPages:
    """Answers `/health`, `/openapi.json` and `/files/...`."""

    def __init__(self, links: FileLinks) -> None:
        """Answer for these links."""
        self._links = links
        self._document: bytes | None = None

    async def answer(self, path: str, request: Request) -> Response | None:
        """Return the page of an escaped path, or None where it needs a key.

        Raises:
            Refused: (405) it has no such method; (403) a link is damaged or its time is over.
            NotFoundError: a link's file is gone.
        """
        if path == "/health":
            _check_method(request, path, "GET")
            return Response(b'{"status":"ok"}', media_type=names.JSON)
        if path == "/openapi.json":
            _check_method(request, path, "GET")
            if self._document is None:
                self._document = await asyncio.to_thread(_document)
            return Response(self._document, media_type=names.JSON)
        if path.startswith(_FILES):
            segments = path.removeprefix(_FILES).split("/")
            if len(segments) == _FILE_SEGMENTS and all(segments):
                _check_method(request, path, "GET", "HEAD")
                return await asyncio.to_thread(self._links.answer, segments[0])
        return None


def _document() -> bytes:
    from loops_transport_http.server.openapi import make_document

    return json.dumps(make_document(), separators=(",", ":")).encode()


def _check_method(request: Request, path: str, *allowed: str) -> None:
    if request.method not in allowed:
        raise no_method(request.method, path, allowed)
