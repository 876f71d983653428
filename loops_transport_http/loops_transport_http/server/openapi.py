"""The OpenAPI document of the server, made from the table of routes and the wire's types."""

from __future__ import annotations

import re
from typing import Any, Final

from loops_core import __version__
from loops_core.types import routes
from loops_core.types.routes import Route
from loops_transport_http.server.paths import full_paths
from loops_transport_http.server.schemas import Json, make_schemas
from loops_transport_http.wire import names
from loops_transport_http.wire.errors import WireError

_REFUSALS: Final = {
    "400": "The request is no HTTP/1.1.",
    "401": "There is no key, or one that nobody has.",
    "403": "A server without keys answers no web pages.",
    "404": "There is no such thing, or it is another owner's.",
    "405": "The path has no such method.",
    "408": "The service is over its bound, or the client was too slow: repeat with the same key.",
    "409": "The key was used before with another body, or the operation was cancelled.",
    "410": "The sampler has ended.",
    "413": "The body is too large.",
    "422": "The request is wrong; `field` says where.",
    "431": "The headers are too large.",
    "500": "The service failed.",
    "503": "The service is ending.",
    "504": "It took too long.",
}
_NUMBER: Final[Json] = {"type": "integer"}
_TEXT: Final[Json] = {"type": "string"}
_QUERIES: Final[dict[str, dict[str, Json]]] = {
    routes.LIST_CHECKPOINTS.name: {
        "run_id": _TEXT,
        "base_model": _TEXT,
        "checkpoint_path": _TEXT,
    },
    routes.GET_CHECKPOINT_FILES.name: {
        "page_size": {"type": "integer", "minimum": 1},
        "page_token": {"type": "integer", "minimum": 0},
    },
    routes.HEALTH.name: {"base_model": _TEXT},
    routes.SAMPLER_HEALTH.name: {"base_model": _TEXT},
}
_KEY_HEADER: Final[dict[str, Json]] = {
    names.IDEMPOTENCY_KEY: {"type": "string", "minLength": 1, "maxLength": 256}
}
_HOLD: Final[dict[str, Json]] = {
    names.HOLD: {"type": "number", "minimum": 0, "maximum": names.LONGEST_HOLD_S}
}
_HEADERS: Final[dict[str, dict[str, Json]]] = {
    routes.RETRIEVE.name: _HOLD,
    routes.POLL.name: _HOLD,
    routes.SAMPLE.name: {
        names.CHECKPOINT_PATH: _TEXT,
        names.MIN_POLICY_VERSION: {"type": "integer", "minimum": 0},
        names.AFFINITY_KEY: {"type": "string", "minLength": 1},
        **_KEY_HEADER,
    },
    routes.CREATE_SESSION.name: _KEY_HEADER,
    routes.CREATE_TRAINER.name: _KEY_HEADER,
    routes.CREATE_SAMPLER.name: _KEY_HEADER,
    **{
        route.name: {
            **_KEY_HEADER,
            names.PART: {"type": "string", "pattern": "^[0-9]{1,4}/[1-9][0-9]{0,3}$"},
        }
        for route in routes.SUBMIT.values()
    },
}


def make_document(*, version: str = __version__) -> Json:
    """Return the OpenAPI 3.1 document of every route."""
    refs, schemas = make_schemas()
    error = refs[(WireError, "serialization")]
    paths: dict[str, Json] = {}
    for route in routes.ROUTES:
        for number, path in enumerate(full_paths(route)):
            entry = _operation(route, path, refs, error)
            entry["operationId"] = route.name if number == 0 else f"{route.name}_of_team"
            paths.setdefault(path, {})[route.method.lower()] = entry
    paths["/health"] = {"get": _alive()}
    paths["/files/{token}/{leaf}"] = {"get": _file(error), "head": _file(error)}
    paths["/files/{token}/{leaf}"]["head"]["operationId"] = "head_file"
    return {
        "openapi": "3.1.0",
        "info": {"title": "Loops", "version": version},
        "paths": paths,
        "security": [{"api_key": []}, {"bearer": []}, {"basic": []}],
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "api_key": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`Api-Key KEY`",
                },
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "KEY as password"},
            },
        },
    }


def _operation(route: Route[Any], path: str, refs: Any, error: Json) -> Json:
    """Return one route's entry."""
    reply = refs[(route.reply_type, "serialization")]
    is_submit = route in routes.SUBMIT.values()
    success: Json = {"description": "The answer.", "content": {names.JSON: {"schema": reply}}}
    if route.name in (routes.RETRIEVE.name, routes.POLL.name):
        success["content"][names.TENSORS] = {}
    if is_submit:
        success["headers"] = {"Location": {"schema": _TEXT}}
    if route.name == routes.SAMPLE.name:
        success["headers"] = {names.POLICY_VERSION: {"schema": _NUMBER}}
    responses: Json = {"202" if is_submit else "200": success, **_refusals(error)}
    if route.name == routes.RETRIEVE.name:
        responses["408"] = {"description": "The operation has not ended: ask again."}
    entry: Json = {
        "tags": [route.service],
        "parameters": _parameters(route, path),
        "responses": responses,
    }
    if route.body_type is not None:
        body = refs[(route.body_type, "validation")]
        entry["requestBody"] = {
            "required": True,
            "content": {names.JSON: {"schema": body}},
        }
    return entry


def _parameters(route: Route[Any], path: str) -> list[Json]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", path)
    ]
    in_query = [
        {"name": name, "in": "query", "schema": schema}
        for name, schema in _QUERIES.get(route.name, {}).items()
    ]
    in_headers = [
        {"name": name, "in": "header", "schema": schema}
        for name, schema in _HEADERS.get(route.name, {}).items()
    ]
    return [*in_path, *in_query, *in_headers]


def _refusals(error: Json) -> dict[str, Json]:
    return {
        status: {"description": text, "content": {names.JSON: {"schema": error}}}
        for status, text in _REFUSALS.items()
    }


def _alive() -> Json:
    schema = {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]}
    return {
        "operationId": "alive",
        "tags": ["control"],
        "security": [],
        "responses": {
            "200": {
                "description": "The server answers.",
                "content": {names.JSON: {"schema": schema}},
            }
        },
    }


def _file(error: Json) -> Json:
    """Return the entry of a signed link: it needs no key, and answers ranges."""
    content: Json = {"application/octet-stream": {}}
    refusals = _refusals(error)
    refused = refusals["404"]["content"]
    return {
        "operationId": "get_file",
        "tags": ["control"],
        "security": [],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _TEXT}
            for name in ("token", "leaf")
        ],
        "responses": {
            "200": {"description": "The file.", "content": content},
            "206": {"description": "The range that was asked for.", "content": content},
            "304": {"description": "The file has not changed."},
            "400": refusals["400"],
            "403": {"description": "The link is damaged or over.", "content": refused},
            "404": refusals["404"],
            "416": {"description": "There is no such range."},
            "500": refusals["500"],
            "503": refusals["503"],
        },
    }
