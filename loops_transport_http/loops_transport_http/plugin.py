"""The plugin of the HTTP transport: it owns the URL schemes, and refuses calls for now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from loops_core.errors import UnsupportedError
from loops_core.hooks import Command, TransportConfig, hookimpl
from loops_core.protocols import Transport

SCHEMES: Final = ("http", "https", "http+unix")
"""The URL schemes that belong to this transport."""


@hookimpl
def loops_commands() -> Sequence[Command]:
    """Return the commands of this distribution."""
    from loops_transport_http.command.serve import serve

    return [Command(name="serve", function=serve)]


@hookimpl
def loops_transport(url: str, config: TransportConfig) -> Transport | None:
    """Refuse the URLs that belong to this transport; leave all others to other plugins.

    Raises:
        UnsupportedError: the URL is one of this transport's; it carries no calls yet.
    """
    del config  # what a transport is opened with does not change the answer
    scheme = url.partition(":")[0].lower()
    if scheme not in SCHEMES:
        return None
    raise UnsupportedError(
        f"base_url {url!r} asks for HTTP, and the HTTP transport is not part of this version of "
        "loops-transport-http; expected an in-process URL such as 'inproc:jax' or 'inproc:mock'",
        field="base_url",
    )
