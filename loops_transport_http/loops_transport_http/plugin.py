"""The plugin of the HTTP transport: its URL schemes, and its commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from loops_core.hooks import Command, TransportConfig, hookimpl
from loops_core.protocols import Transport

LOCAL: Final = "local"
SCHEMES: Final = ("http", "https", LOCAL)
"""The URL schemes that belong to this transport."""


@hookimpl
def loops_commands() -> Sequence[Command]:
    """Return the commands of this distribution."""
    from loops_transport_http.command.bench import protocol
    from loops_transport_http.command.serve import serve

    return [
        Command(name="serve", function=serve),
        Command(name="bench protocol", function=protocol),
    ]


@hookimpl
def loops_transport(url: str, config: TransportConfig) -> Transport | None:
    """Return the HTTP transport for the URLs that belong to it.

    Raises:
        UsageError: the URL has no host.
        UnsupportedError: what the environment asks for is not installed.
    """
    scheme = url.partition(":")[0].lower()
    if scheme not in SCHEMES:
        return None
    from loops_transport_http.client.opening import open_local, open_transport

    if scheme == LOCAL:
        return open_local(url, api_key=config.api_key)
    return open_transport(url, api_key=config.api_key)
