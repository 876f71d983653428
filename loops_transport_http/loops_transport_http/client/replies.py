"""From an HTTP response to a call's reply, or to the error that it means; pure."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar, cast

import httpx

from loops_core.errors import LoopsError, RemoteOpError, UnknownRequestError, UsageError
from loops_core.types import routes
from loops_core.types.base import WireModel
from loops_core.types.operation import OperationStatus
from loops_core.types.routes import Call
from loops_core.types.sampling import Completions
from loops_transport_http.client.status_errors import refused
from loops_transport_http.wire import bodies, names
from loops_transport_http.wire.errors import read_error

ReplyT = TypeVar("ReplyT", bound=WireModel)

_GONE: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
"""Of a poll: the operation never was, or its result has expired."""


def read_reply(call: Call[ReplyT], response: httpx.Response) -> ReplyT:
    """Return the reply of a response whose body was read.

    Raises:
        LoopsError: the service refused the call; an `httpx.HTTPStatusError` too.
        RemoteOpError: the service answered something that is no reply to this call.
    """
    status = response.status_code
    if call.route.name == routes.RETRIEVE.name and status == HTTPStatus.REQUEST_TIMEOUT:
        return cast("ReplyT", OperationStatus(status="pending"))
    if status >= HTTPStatus.BAD_REQUEST:
        raise refused(_refusal(call, status, response.headers, response.content), response)
    reply = _decode(call, response)
    if isinstance(reply, Completions):
        version = response.headers.get(names.POLICY_VERSION, "")
        reply.policy_version = int(version) if version.isascii() and version.isdigit() else None
    return reply


def _refusal(
    call: Call[Any], status: int, headers: Mapping[str, str], content: bytes
) -> LoopsError:
    error = read_error(status, headers, content)
    is_unknown = call.route.name == routes.RETRIEVE.name and status in _GONE
    if is_unknown and not isinstance(error, UnknownRequestError):
        return UnknownRequestError(error.message)
    return error


def _decode(call: Call[ReplyT], response: httpx.Response) -> ReplyT:
    media_type = response.headers.get("content-type", names.JSON)
    content = response.content
    try:
        if media_type.partition(";")[0].strip() != names.TENSORS:
            media_type = names.JSON  # whatever a server calls its JSON
        return bodies.decode(content, call.route.reply_type, media_type=media_type)
    except UsageError as error:
        raise RemoteOpError(
            f"the service's answer to {call.route.name} cannot be read: {error.message}"
        ) from error
