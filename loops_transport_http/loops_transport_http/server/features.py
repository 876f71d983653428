"""What this server offers, on every response."""

from __future__ import annotations

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


def features_header(settings: ServerSettings) -> tuple[bytes, bytes]:
    """Return the header as ASGI has it."""
    return names.FEATURES.lower().encode(), features_of(settings).to_header().encode()
