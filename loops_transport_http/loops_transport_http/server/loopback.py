"""Requests of this machine: the only ones that are answered without a key."""

from __future__ import annotations

import ipaddress
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.requests import Request

from loops_core.errors import UsageError
from loops_transport_http.server.refusals import Refused


def is_loopback(host: str) -> bool:
    """Tell whether nobody but this machine can reach an address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_local(request: Request, public_url: str | None) -> None:
    """Refuse what a web page could send through the browser of who runs an open server.

    A page of another site tells its origin; one that made a name of its own point to this machine
    shows that name as the host.

    Raises:
        Refused: (403) the request comes from a page, or is for another host.
    """
    if "origin" in request.headers:
        error = UsageError("a server without keys answers no web pages", field="Origin")
        raise Refused(HTTPStatus.FORBIDDEN, error)
    host = request.headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:  # what stands there is no host
        name = ""
    public = None if public_url is None else urlsplit(public_url).hostname
    if not is_loopback(name) and name != public:
        error = UsageError(
            f"Host is {host[:200]!r}: a server without keys answers to localhost and 127.0.0.1",
            field="Host",
        )
        raise Refused(HTTPStatus.FORBIDDEN, error)
