"""What a server is told: limits, address, key files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The bounds of a server.

    Attributes:
        public_url: the address that clients see; None = the one that a request was sent to.
        max_body_bytes: the largest body of one request.
        max_reading_bytes: most bytes of bodies that are read or checked at once.
        body_timeout_s: how long a client may take to send a body.
        room_wait_s: how long a request waits for room for its body.
        link_kept_s: how long a link to a checkpoint's file is valid.
    """

    public_url: str | None = None
    max_body_bytes: int = 64 * MIB
    max_reading_bytes: int = 512 * MIB
    body_timeout_s: float = 120.0
    room_wait_s: float = 20.0
    link_kept_s: int = 3600
