"""Which route of the protocol an HTTP request is for, whatever its server puts before the path."""

from __future__ import annotations

import re
from typing import Final

from loops_core.types.routes import ROUTES

_SCOPED: Final = re.compile(r"^/v1/(teams/[^/]+/)?loops/(debug/)?")
"""What servers write in place of the control plane's own prefix."""


def route_name(method: str, path: str) -> str | None:
    """Return the name of the route that a request is for; None where it is none of the protocol's.

    Args:
        method: the HTTP method.
        path: the request's path, unescaped or not, without a query.

    >>> route_name("GET", "/trainers/3f9/operations/abc")
    'retrieve'
    >>> route_name("POST", "/v1/teams/t1/loops/trainers")
    'create_trainer'
    """
    plain = _SCOPED.sub("/v1/loops/", path)
    is_sampler = "/samplers/" in plain
    for pattern, service, name in _PATTERNS.get(method, ()):
        if service != "control" and (service == "sampler") != is_sampler and name in _TWINS:
            continue
        if pattern.search(plain):
            return name
    return None


def _patterns() -> dict[str, list[tuple[re.Pattern[str], str, str]]]:
    made: dict[str, list[tuple[re.Pattern[str], str, str]]] = {}
    for route in sorted(ROUTES, key=lambda route: route.path.count("{")):  # literal paths first
        literals = re.split(r"\{\w+\}", route.path)
        begin = "^" if route.service == "control" else ""  # others lie below their own address
        pattern = re.compile(begin + "[^/]+".join(map(re.escape, literals)) + "$")
        made.setdefault(route.method, []).append((pattern, route.service, route.name))
    return made


_TWINS: Final = frozenset({"health", "sampler_health"})
"""Routes that only the service they belong to tells apart."""

_PATTERNS: Final = _patterns()
