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
        body_timeout_s: how long a client may take to send a body, beside what its size allows.
        header_timeout_s: how long a client may take to send its headers.
        write_timeout_s: how long a client may go without reading its answer.
        least_bytes_per_s: slower than this a client may neither send nor read for long.
        max_header_bytes: most bytes of a request's first line and headers.
        room_wait_s: how long a request waits for room for its body.
        link_kept_s: how long a link to a checkpoint's file is valid.
    """

    public_url: str | None = None
    max_body_bytes: int = 64 * MIB
    max_reading_bytes: int = 512 * MIB
    body_timeout_s: float = 30.0
    header_timeout_s: float = 30.0
    write_timeout_s: float = 30.0
    least_bytes_per_s: float = 32 * 1024
    max_header_bytes: int = 64 * 1024
    room_wait_s: float = 20.0
    link_kept_s: int = 3600
