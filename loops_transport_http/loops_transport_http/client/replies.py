"""From an HTTP response to a call's reply, or to the error that it means; pure."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit

import httpx

from loops_core.errors import (
    LoopsError,
    RemoteOpError,
    UnknownRequestError,
    UnreachableError,
    UnsupportedError,
    UsageError,
)
from loops_core.types import routes
from loops_core.types.base import WireModel
from loops_core.types.operation import CancelReply, OperationStatus
from loops_core.types.routes import Call
from loops_core.types.sampling import Completions
from loops_transport_http.client.status_errors import refused
from loops_transport_http.wire import bodies, names
from loops_transport_http.wire.errors import read_error, read_own_error

ReplyT = TypeVar("ReplyT", bound=WireModel)

_GONE: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
"""Of a poll: the operation never was, or its result has expired."""

_NO_ROUTE: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)

_POLLS: Final = frozenset({routes.RETRIEVE.name, routes.POLL.name})
"""Calls that are asked again in any case: an unreadable answer loses nothing."""


def read_reply(call: Call[ReplyT], response: httpx.Response) -> ReplyT:
    """Return the reply of a response whose body was read.

    Raises:
        LoopsError: the service refused the call; an `httpx.HTTPStatusError` too.
        RemoteOpError: the service answered something that is no reply to this call.
        UnreachableError: that was a poll's answer, and the next one may be better.
    """
    status = response.status_code
    if status >= HTTPStatus.BAD_REQUEST:
        known = _known_answer(call, response)
        if known is not None:
            return cast("ReplyT", known)
        raise refused(_refusal(call, status, response.headers, response.content), response)
    if status >= HTTPStatus.MULTIPLE_CHOICES:
        raise refused(_redirection(call, response), response)
    reply = _decode(call, response)
    if isinstance(reply, Completions):
        version = response.headers.get(names.POLICY_VERSION, "")
        reply.policy_version = int(version) if version.isascii() and version.isdigit() else None
    return reply


def _known_answer(call: Call[Any], response: httpx.Response) -> WireModel | None:
    """Return what a status says in place of a body."""
    status, content = response.status_code, response.content
    is_timeout = status == HTTPStatus.REQUEST_TIMEOUT and "Retry-After" not in response.headers
    if call.route.name == routes.RETRIEVE.name and is_timeout:
        return OperationStatus(status="pending")
    is_taken = call.route.name == routes.CANCEL.name and status == HTTPStatus.CONFLICT
    if is_taken and read_own_error(content) is None:
        return CancelReply(cancelled=False)
    return None


def _refusal(
    call: Call[Any], status: int, headers: Mapping[str, str], content: bytes
) -> LoopsError:
    error = read_error(status, headers, content)
    is_unknown = call.route.name == routes.RETRIEVE.name and status in _GONE
    if is_unknown and not isinstance(error, UnknownRequestError):
        return UnknownRequestError(error.message)
    is_absent = call.route.name == routes.CANCEL.name and status in _NO_ROUTE
    if is_absent and read_own_error(content) is None:
        return UnsupportedError("the service does not cancel operations")
    return error


def _redirection(call: Call[Any], response: httpx.Response) -> LoopsError:
    location: str = response.headers.get("Location", "")
    where = urlsplit(location)
    return UsageError(
        f"{call.route.name} was answered {response.status_code}, which leads to "
        f"{where.scheme}://{where.hostname}{where.path}: redirects are not followed, since they "
        "would take the key along; pass the service's own address as base_url",
        field="base_url",
    )


def _decode(call: Call[ReplyT], response: httpx.Response) -> ReplyT:
    media_type = response.headers.get("content-type", names.JSON)
    content = response.content
    try:
        if media_type.partition(";")[0].strip() != names.TENSORS:
            media_type = names.JSON  # whatever a server calls its JSON
        return bodies.decode(content, call.route.reply_type, media_type=media_type)
    except UsageError as error:
        message = f"the service's answer to {call.route.name} cannot be read: {error.message}"
        if call.route.name in _POLLS:
            raise UnreachableError(message, run_id=call.run_id) from error
        raise RemoteOpError(message) from error
