"""From a URL and the environment to a transport."""

from __future__ import annotations

import importlib.util
import os
from typing import Final
from urllib.parse import urlsplit

from loops_core.errors import UnsupportedError, UsageError
from loops_transport_http.client.local import LocalAddresses, LocalTransport
from loops_transport_http.client.pools import MOST_CONNECTIONS
from loops_transport_http.client.requests import Address
from loops_transport_http.client.transport import HttpTransport
from loops_transport_http.wire import bodies

_HTTP2: Final = ("LOOPS_HTTP2", "BT_LOOPS_HTTP2")
_CONNECTIONS: Final = "BT_LOOPS_MAX_CONNECTIONS"
_REQUEST_LOG: Final = "LOOPS_REQUEST_LOG"
_COMPRESSION: Final = "LOOPS_HTTP_COMPRESSION"


def open_transport(url: str, *, api_key: str | None) -> HttpTransport:
    """Return a transport to the service at a URL.

    Raises:
        UsageError: the URL has no host, or a variable of the environment says what it cannot.
        UnsupportedError: what the environment asks for is not installed.
    """
    if not urlsplit(url).hostname:
        raise UsageError(
            f"base_url {url!r} names no host: expected http://HOST:PORT", field="base_url"
        )
    if "@" in urlsplit(url).netloc:
        raise UsageError(
            "base_url holds a user or a password: expected http://HOST:PORT; pass the key as "
            "api_key, or in LOOPS_API_KEY",
            field="base_url",
        )
    if os.environ.get(_REQUEST_LOG):
        raise UnsupportedError(
            f"{_REQUEST_LOG} is set, and this client keeps no log of requests, which would hold "
            "the data of every call: unset it",
            field=_REQUEST_LOG,
        )
    return HttpTransport(
        Address(base_url=url.rstrip("/"), api_key=api_key),
        most_connections=_most_connections(),
        http2=_wants_http2(),
        compresses=_wants_compression(),
    )


def open_local(url: str, *, api_key: str | None) -> LocalTransport:
    """Return a transport to the trainer and the sampler that a `local:` URL names.

    Raises:
        UsageError: an address is missing or has no host.
        UnsupportedError: what the environment asks for is not installed.
    """
    addresses = LocalAddresses.of(url)
    return LocalTransport(open_transport(addresses.trainer_url, api_key=api_key), addresses)


def _wants_http2() -> bool:
    asked = {name: os.environ.get(name, "") for name in _HTTP2}
    for name, text in asked.items():
        if text not in ("0", "1", ""):
            raise UsageError(f"{name} is {text!r}: expected 0 or 1", field=name)
        if text == "1" and importlib.util.find_spec("h2") is None:
            raise UnsupportedError(
                f"{name}=1 needs h2, which is not installed: "
                "pip install 'loops-transport-http[http2]'",
                field=name,
            )
    return "1" in asked.values()


def _most_connections() -> int:
    text = os.environ.get(_CONNECTIONS) or str(MOST_CONNECTIONS)
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError(f"{_CONNECTIONS} is {text!r}: expected a number", field=_CONNECTIONS)
    return int(text)


def _wants_compression() -> bool:
    text = os.environ.get(_COMPRESSION, "")
    if text not in ("", bodies.ZSTD):
        raise UsageError(f"{_COMPRESSION} is {text!r}: expected zstd", field=_COMPRESSION)
    if text and not bodies.has_zstd():
        raise UnsupportedError(
            f"{_COMPRESSION}=zstd needs zstandard, which is not installed: "
            "pip install 'loops-transport-http[zstd]'",
            field=_COMPRESSION,
        )
    return bool(text)
