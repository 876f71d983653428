"""A request's route is known by its method and path, below whatever address its service has."""

from __future__ import annotations

import re

from loops_core.types.routes import ROUTES
from loops_mock.simulation.naming import route_name

PREFIXES = {"control": "", "trainer": "/trainers/3f9", "sampler": "/samplers/x1"}


def test_every_route_is_known_by_the_path_of_the_server() -> None:
    for known in ROUTES:
        path = PREFIXES[known.service] + re.sub(r"\{\w+\}", "abc", known.path)
        assert route_name(known.method, path) == known.name


def test_creates_of_teams_and_of_test_versions_are_known() -> None:
    assert route_name("POST", "/v1/teams/t1/loops/sessions") == "create_session"
    assert route_name("POST", "/v1/loops/debug/trainers") == "create_trainer"
    assert route_name("POST", "/v1/teams/t1/loops/debug/samplers") == "create_sampler"


def test_what_is_none_of_the_protocol_has_no_name() -> None:
    assert route_name("GET", "/openapi.json") is None
    assert route_name("DELETE", "/v1/loops/runs") is None
