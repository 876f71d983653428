"""What this server offers, on every response."""

from __future__ import annotations

from typing import final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loops_transport_http.server.settings import ServerSettings
from loops_transport_http.wire import bodies, names
from loops_transport_http.wire.features import Features


def features_of(settings: ServerSettings) -> Features:
    """Return what a server with these settings offers."""
    return Features(
        tensors=True,
        poll=True,
        parts=True,
        zstd=bodies.has_zstd(),
        max_body_bytes=settings.max_body_bytes,
    )


@final
class FeaturesHeader:
    """Middleware that adds the header to whatever is answered."""

    def __init__(self, app: ASGIApp, *, settings: ServerSettings) -> None:
        """Wrap an application."""
        self._app = app
        text = features_of(settings).to_header()
        self._header = (names.FEATURES.lower().encode(), text.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), self._header]
            await send(message)

        await self._app(scope, receive, send_with_header if scope["type"] == "http" else send)
