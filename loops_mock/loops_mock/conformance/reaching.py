"""Finding out that a service is there, before it is asked anything, and saying what is wrong."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Final

from loops_core.errors import (
    BusyError,
    LoopsError,
    NotFoundError,
    PluginError,
    TransportError,
    UnreachableError,
    UsageError,
)
from loops_core.types import routes
from loops_core.types.routes import Call
from loops_mock.contract.target import Target

_NEEDED: Final = ("httpx", "loops_transport_http")
_FIRST_TIMEOUT_S: Final = 30.0


def check_installed(
    url: str, *, find: Callable[[str], object | None] = importlib.util.find_spec
) -> None:
    """Return if what the URL's scheme needs is installed.

    Args:
        url: the service's.
        find: tells of a package whether it is there.

    Raises:
        UsageError: it is not, and the message names the extra; or it is no URL.
    """
    scheme, colon, rest = url.partition(":")
    if not scheme or not colon or not rest.strip("/"):
        raise UsageError(
            f"URL {url!r} is none: expected http://HOST:PORT, https://HOST, or inproc:NAME",
            field="URL",
        )
    missing = [name for name in _NEEDED if find(name) is None]
    if scheme.lower() in ("http", "https") and missing:
        raise UsageError(
            f"{scheme} URLs need {' and '.join(missing)}, which is not installed: "
            "pip install 'loops-mock[conformance]'",
            field="URL",
        )


def open_target(url: str, *, api_key: str | None, base_model: str | None) -> Target:
    """Return the service at the URL; whether it answers, `check_reachable` tells.

    Raises:
        UsageError: nothing installed serves the URL, or it is wrong.
    """
    check_installed(url)
    try:
        return Target(url, api_key=api_key, base_model=base_model)
    except PluginError as error:
        raise UsageError(str(error), field="URL") from error


def check_reachable(target: Target) -> None:
    """Return if a Loops service answers.

    Raises:
        UsageError: nobody answers, somebody else does, or the key is refused; the message says
            which of these, and what to do.
    """
    url = target.shown_url
    try:
        target.send(Call(route=routes.GET_CAPABILITIES, timeout_s=_FIRST_TIMEOUT_S))
    except BusyError as error:
        raise UsageError(f"{url} is busy: {error}; try again later", field="URL") from error
    except UnreachableError as error:
        raise UsageError(
            f"{url} does not answer: {error}. Is the service running, and is the address right?",
            field="URL",
        ) from error
    except TransportError as error:
        raise UsageError(f"{url} cannot be asked now: {error}", field="URL") from error
    except NotFoundError as error:
        raise UsageError(
            f"{url} answers, but not as a Loops service: {error}. Expected the address below which "
            "/v1/loops/capabilities is",
            field="URL",
        ) from error
    except LoopsError as error:
        raise UsageError(f"{url} refuses to be asked: {error}", field="URL") from error


def check_still_there(target: Target) -> None:
    """Return unless the service has gone while rules were running.

    Raises:
        UsageError: nobody answers at its address any more.
    """
    try:
        target.send(Call(route=routes.GET_CAPABILITIES, timeout_s=_FIRST_TIMEOUT_S))
    except UnreachableError as error:
        raise UsageError(
            f"{target.shown_url} has stopped answering while rules were running: {error}",
            field="URL",
        ) from error
    except LoopsError:
        return  # it is there, and has its own troubles: rules tell of them
