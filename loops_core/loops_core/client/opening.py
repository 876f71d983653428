"""Opening a transport: which URL, which key."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, final
from urllib.parse import urlencode

from loops_core import chance
from loops_core.client.arguments import check_text, shown
from loops_core.client.drivers import Driver
from loops_core.clock import Clock, current_clock
from loops_core.errors import PluginError, UnsupportedError, UsageError
from loops_core.plugins import Plugins
from loops_core.types.deployment import AvailabilityModel

DEFAULT_URL: Final = "inproc:jax"
"""Where a client goes that is not told: the JAX backend in its own process."""

_LOCAL: Final = "local:"
_URL_VARIABLE: Final = "LOOPS_BASE_URL"
_OPTION_VARIABLES: Final = {
    "team": "LOOPS_TEAM",
    "reuse_from_run_id": "LOOPS_REUSE_FROM_RUN_ID",
    "reuse_from_session_id": "LOOPS_REUSE_FROM_SESSION_ID",
    "availability_model": "LOOPS_AVAILABILITY_MODEL",
    "internal_backend_version": "INTERNAL_LOOPS_BACKEND_VERSION",
    "scope": "BASETEN_LOOPS_SCOPE",
}
_KEY_VARIABLES: Final = ("LOOPS_API_KEY", "BASETEN_API_KEY")


def service_url(given: str | None) -> str:
    """Return the URL to open: the one given, the environment's, or the default."""
    if given is not None:
        return check_text("base_url", given).rstrip("/")
    return os.environ.get(_URL_VARIABLE, "").rstrip("/") or DEFAULT_URL


def service_key(given: str | None, url: str) -> str | None:
    """Return the key to open it with: the one given, or the first that the environment holds.

    A trainer without a service gets no key that it was not given.
    """
    if given is not None:
        return check_text("api_key", given)
    if url.startswith(_LOCAL):
        return None
    held = (os.environ.get(variable) for variable in _KEY_VARIABLES)
    return next((key for key in held if key), None)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """What a service client asks of everything that it makes; fields as in `ServiceClient`."""

    team: str | None = None
    reuse_from_run_id: str | None = None
    reuse_from_session_id: str | None = None
    availability_model: AvailabilityModel | None = None
    internal_backend_version: str | None = None
    scope: str | None = None


def service_options(
    url: str,
    *,
    team: str | None,
    reuse_from_run_id: str | None,
    reuse_from_session_id: str | None,
    availability_model: AvailabilityModel | str | None,
    internal_backend_version: str | None,
) -> ServiceOptions:
    """Return the options that were given, else the environment's.

    Without a service there is nobody to ask: the environment is not read then.

    Raises:
        UsageError: one is no text, or not among what it can be.
    """

    def option(name: str, given: str | None) -> str | None:
        if given is not None:
            return check_text(name, given)
        return None if url.startswith(_LOCAL) else os.environ.get(_OPTION_VARIABLES[name]) or None

    wanted = option("availability_model", availability_model)
    known = [model.value for model in AvailabilityModel]
    if wanted is not None and wanted not in known:
        raise UsageError(
            f"availability_model must be one of {', '.join(known)}, not {shown(wanted)}",
            field="availability_model",
        )
    return ServiceOptions(
        team=option("team", team),
        reuse_from_run_id=option("reuse_from_run_id", reuse_from_run_id),
        reuse_from_session_id=option("reuse_from_session_id", reuse_from_session_id),
        availability_model=None if wanted is None else AvailabilityModel(wanted),
        internal_backend_version=option("internal_backend_version", internal_backend_version),
        scope=option("scope", None),
    )


def local_url(trainer_url: str, sampler_url: str) -> str:
    """Return the URL of a trainer and a sampler without a service; its scheme is `local`."""
    parts = {
        "trainer_url": check_text("trainer_url", trainer_url),
        "sampler_url": check_text("sampler_url", sampler_url),
    }
    return f"{_LOCAL}?{urlencode(parts)}"


@contextmanager
def no_local_transport(trainer_url: str) -> Generator[None]:
    """Say what is missing when no plugin takes the scheme `local`."""
    try:
        yield
    except PluginError as error:
        raise UnsupportedError(
            f"a trainer at {trainer_url!r} cannot be reached without the service around it: "
            f"{error.message}"
        ) from error


def open_driver(
    url: str, *, api_key: str | None, plugins: Plugins, clock: Clock | None = None
) -> Driver:
    """Return a driver over a new transport.

    Raises:
        PluginError: nothing installed serves the URL; the message names the extra to install.
    """
    transport = plugins.open_transport(url, api_key=service_key(api_key, url))
    return Driver(transport, clock or current_clock(), chance.make_random())
