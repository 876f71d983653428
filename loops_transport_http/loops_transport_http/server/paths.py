"""Which route a path means: one tree of all of them, read segment by segment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, final
from urllib.parse import unquote

from loops_core.errors import NotFoundError, UsageError
from loops_core.types import routes
from loops_core.types.routes import Route
from loops_transport_http.server.refusals import Refused

TRAINER_ID: Final = "trainer_id"
SAMPLER_ID: Final = "sampler_id"
TEAM_ID: Final = "team_id"
"""Path arguments of the server's own; those of the protocol's routes are in `ROUTES`."""

_LOOPS: Final = "/v1/loops/"
_TEAM: Final = f"/v1/teams/{{{TEAM_ID}}}/loops/"
_PREFIXES: Final = {
    "control": "",
    "trainer": f"/trainers/{{{TRAINER_ID}}}",
    "sampler": f"/samplers/{{{SAMPLER_ID}}}",
}
_CREATES: Final = (routes.CREATE_SESSION, routes.CREATE_TRAINER, routes.CREATE_SAMPLER)


@dataclass(frozen=True, slots=True)
class Found:
    """A route, and the path arguments of one request for it, unescaped."""

    route: Route[Any]
    path_args: dict[str, str]


@dataclass(slots=True)
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict[str, "_Node"])
    argument: _Node | None = None
    routes: dict[str, tuple[Route[Any], tuple[str, ...]]] = field(
        default_factory=dict[str, tuple[Route[Any], tuple[str, ...]]]
    )


def full_paths(route: Route[Any]) -> list[str]:
    """Return every path of a route on this server.

    >>> full_paths(routes.HEALTH)
    ['/trainers/{trainer_id}/health']
    """
    paths = [_PREFIXES[route.service] + route.path]
    if route in _CREATES:
        paths.append(route.path.replace(_LOOPS, _TEAM))
    return paths


@final
class PathTable:
    """All routes of the server by path.

    A path is split before its segments are unescaped, so that an id may hold an escaped slash;
    routers of the libraries unescape first.
    """

    def __init__(self) -> None:
        """Read the protocol's routes."""
        self._root = _Node()
        for route in routes.ROUTES:
            for path in full_paths(route):
                self.add(path, route)
        for route in _CREATES[1:]:  # where published clients are told to use a test version
            for path in full_paths(route):
                self.add(path.replace("/loops/", "/loops/debug/"), route)

    def add(self, path: str, route: Route[Any]) -> None:
        """Let a path lead to a route; `{name}` stands for a path argument."""
        node, names = self._root, list[str]()
        for segment in path.strip("/").split("/"):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.argument = node.argument or _Node()
                node = node.argument
            else:
                node = node.literals.setdefault(segment, _Node())
        node.routes[route.method] = (route, tuple(names))

    def find(self, method: str, raw_path: str) -> Found:
        """Return the route of an escaped path.

        Raises:
            NotFoundError: no route has this path.
            Refused: (405) none has it with this method.
        """
        segments = [unquote(segment) for segment in raw_path.removeprefix("/").split("/")]
        allowed: set[str] = set()
        for node, values in _walk(self._root, segments, 0, ()):
            entry = node.routes.get(method)
            if entry is not None:
                return Found(entry[0], dict(zip(entry[1], values, strict=True)))
            allowed.update(node.routes)
        if not allowed:
            raise NotFoundError(f"{method} {raw_path[:200]}: there is no such path", kind="route")
        raise no_method(method, raw_path, sorted(allowed))


def no_method(method: str, path: str, allowed: Iterable[str]) -> Refused:
    """Return the refusal of a method that a path does not have."""
    methods = ", ".join(allowed)
    error = UsageError(f"{method} {path[:200]}: expected {methods}", field="method")
    return Refused(HTTPStatus.METHOD_NOT_ALLOWED, error, headers={"Allow": methods})


def _walk(
    node: _Node, segments: list[str], position: int, values: tuple[str, ...]
) -> Iterator[tuple[_Node, tuple[str, ...]]]:
    """Yield the nodes at the path's end, those with more literals first."""
    if position == len(segments):
        if node.routes:
            yield node, values
        return
    segment = segments[position]
    literal = node.literals.get(segment)
    if literal is not None:
        yield from _walk(literal, segments, position + 1, values)
    if node.argument is not None and segment:
        yield from _walk(node.argument, segments, position + 1, (*values, segment))
