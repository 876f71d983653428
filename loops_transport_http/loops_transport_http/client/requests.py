"""From a call to an HTTP request; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from loops_core.errors import UsageError
from loops_core.types import routes
from loops_core.types.base import WireModel
from loops_core.types.deployment import CreateSamplerBody, CreateTrainerBody
from loops_core.types.routes import Call
from loops_transport_http import __version__
from loops_transport_http.wire import bodies, names
from loops_transport_http.wire.features import Features

STANDARD_TIMEOUT_S: Final = 600.0
"""How long a call may take that names no bound, in seconds; as published clients have it."""

_ANSWERED_WITH_TENSORS: Final = frozenset({routes.RETRIEVE.name, routes.POLL.name})
_OMITTED_WHEN_NONE: Final = frozenset(
    {routes.SAMPLE.name, routes.CREATE_TRAINER.name, routes.CREATE_SAMPLER.name}
)
"""Routes whose body lacks what is None, where others send null."""

_OPTIONAL: Final[Mapping[str, frozenset[str]]] = {
    routes.CREATE_TRAINER.name: frozenset({"scale_down_delay_seconds"}),
    "save_weights_for_sampler": frozenset({"ttl_seconds", "bump_version"}),
}
"""Fields that a body lacks unless somebody set them: older services do not know them."""

_FIXED: Final = {
    "User-Agent": f"loops/{__version__}",
    names.ACCEPT_ERROR: "1",
    "Accept-Encoding": "gzip",
}
"""Headers of every request; zstd is not asked for, a fast network is faster without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a service is, and what to show it.

    Attributes:
        base_url: the service's address without a slash at its end.
        api_key: the key; only the service and the addresses that it named get to see it.
    """

    base_url: str
    api_key: str | None = field(default=None, repr=False)

    def root_of(self, base_url: str | None) -> str:
        """Return the whole address of whoever answers a call."""
        given = (base_url or "").rstrip("/")
        return f"{self.base_url}{given}" if given[:1] in ("", "/") else given

    def url_of(self, call: Call[Any]) -> str:
        """Return the whole URL of a call."""
        root = self.root_of(call.base_url)
        path = _create_path(call) if call.route in _CREATES else call.route.path
        for name, value in call.path_args.items():
            path = path.replace(f"{{{name}}}", quote(value, safe=""))
        query = f"?{urlencode(call.query)}" if call.query else ""
        return f"{root}{path}{query}"


_CREATES: Final = (routes.CREATE_SESSION, routes.CREATE_TRAINER, routes.CREATE_SAMPLER)


def _create_path(call: Call[Any]) -> str:
    """Return where something is made: for a team, and by a test version of the service."""
    path, body = call.route.path, call.body
    if isinstance(body, CreateTrainerBody | CreateSamplerBody) and (
        body.scope is not None or body.debug_version is not None
    ):
        path = path.replace("/loops/", "/loops/debug/")
    if call.team_id is not None:
        path = path.replace("/v1/loops", f"/v1/teams/{quote(call.team_id, safe='')}/loops")
    return path


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A request, complete."""

    method: str
    url: str
    headers: dict[str, str]
    content: bytes


def to_request(
    call: Call[Any], address: Address, features: Features, *, compresses: bool = False
) -> WireRequest:
    """Return the request of a call, in the form that the server is known to read.

    Raises:
        UsageError: something that travels as a header holds more than printable ASCII.
    """
    headers = {**_FIXED, "Accept": names.JSON}
    _add_call_headers(headers, call)
    _check_headers(headers)
    if address.api_key is not None:
        headers["Authorization"] = f"Api-Key {_checked_key(address.api_key)}"
    if compresses:
        headers["Accept-Encoding"] = f"{bodies.ZSTD}, gzip"
    if features.tensors and call.route.name in _ANSWERED_WITH_TENSORS:
        headers["Accept"] = f"{names.TENSORS}, {names.JSON}"
    return WireRequest(
        call.route.method,
        address.url_of(call),
        headers,
        _content(call, headers, features, compresses=compresses),
    )


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL.

    >>> origin_of("http://h:1/trainers/r1")
    'http://h:1'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _content(
    call: Call[Any], headers: dict[str, str], features: Features, *, compresses: bool
) -> bytes:
    if call.body is None:
        return b""
    is_packed = features.tensors and call.route.name in _WITH_TENSORS
    headers["Content-Type"] = names.TENSORS if is_packed else names.JSON
    if is_packed:
        content = bodies.encode(call.body, media_type=names.TENSORS)
    else:
        content = _json(call.route.name, call.body)
    if compresses and features.zstd and content:
        headers["Content-Encoding"] = bodies.ZSTD
        content = bodies.compress(content)
    return content


_WITH_TENSORS: Final = frozenset({"forward", "forward_backward"})


def _json(route: str, body: WireModel) -> bytes:
    """Return the body as published clients send it."""
    absent = {
        name
        for name in _OPTIONAL.get(route, ())
        if name not in body.model_fields_set or getattr(body, name) is None
    }
    return body.model_dump_json(
        by_alias=True, exclude=absent or None, exclude_none=route in _OMITTED_WHEN_NONE
    ).encode()


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not _fits_header(value):
            raise UsageError(
                f"{name} cannot carry {value!r}: expected printable ASCII characters", field=name
            )


def _checked_key(api_key: str) -> str:
    if not _fits_header(api_key):
        raise UsageError(
            "api_key holds characters that no key has: expected printable ASCII", field="api_key"
        )
    return api_key


def _fits_header(value: str) -> bool:
    return value.isascii() and value.isprintable() and value == value.strip()


def _add_call_headers(headers: dict[str, str], call: Call[Any]) -> None:
    if call.run_id is not None:
        headers[names.RUN_ID] = call.run_id
    if call.idempotency_key is not None:
        headers[names.IDEMPOTENCY_KEY] = call.idempotency_key
    if call.affinity_key is not None:
        headers[names.AFFINITY_KEY] = call.affinity_key
    if call.route in (routes.RETRIEVE, routes.POLL):
        headers[names.HOLD] = f"{call.hold_s:g}"
    if call.part is not None:
        headers[names.PART] = f"{call.part.index}/{call.part.count}"
    pin = call.pin
    if pin.checkpoint_path is not None:
        headers[names.CHECKPOINT_PATH] = pin.checkpoint_path
    if pin.run_id is not None:
        headers[names.RUN_ID] = pin.run_id
    elif pin.checkpoint_path is None and pin.sampler_id is not None:
        headers[names.SAMPLER_ID] = pin.sampler_id
    if pin.min_policy_version:
        headers[names.MIN_POLICY_VERSION] = str(pin.min_policy_version)
