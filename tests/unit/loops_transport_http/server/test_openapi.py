"""The OpenAPI document speaks of every route, and of nothing that is not there."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from loops_core.types import routes
from loops_transport_http.server.openapi import make_document
from loops_transport_http.server.paths import full_paths


def test_every_route_is_described_under_each_of_its_paths() -> None:
    paths = make_document()["paths"]
    described = {(path, method.upper()) for path, entry in paths.items() for method in entry}
    ours = {(path, route.method) for route in routes.ROUTES for path in full_paths(route)}
    file = "/files/{token}/{leaf}"
    assert described == ours | {("/health", "GET"), (file, "GET"), (file, "HEAD")}


def test_every_reference_leads_somewhere() -> None:
    document = make_document()
    references = set(re.findall(r"#/components/schemas/([\w.-]+)", json.dumps(document)))
    assert references == set(document["components"]["schemas"])


@pytest.mark.parametrize("route", routes.ROUTES, ids=lambda route: route.name)
def test_every_refusal_has_the_one_shape(route: routes.Route[routes.WireModel]) -> None:
    for path in full_paths(route):
        responses = make_document()["paths"][path][route.method.lower()]["responses"]
        assert {"401", "404", "405", "413", "422", "503"} <= responses.keys()
        schema = responses["422"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/WireError"}


async def test_the_document_is_served_without_a_key(http: httpx.AsyncClient) -> None:
    reply = await http.get("/openapi.json", headers={"Authorization": ""})
    assert reply.json() == make_document()
