"""Errors as status codes and one JSON shape, and back into the same classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from pydantic import BaseModel, ValidationError

from loops_core.errors import (
    BusyError,
    CheckpointError,
    ConflictError,
    LoopsError,
    NotFoundError,
    OperationCancelledError,
    PluginError,
    RemoteOpError,
    ResultTimeoutError,
    SamplerTerminatedError,
    ServerShutdownError,
    StalePolicyError,
    TransportError,
    UnknownRequestError,
    UnreachableError,
    UnsupportedError,
    UsageError,
    error_from_body,
    error_to_body,
)
from loops_core.types.operation import ErrorBody, ErrorField
from loops_transport_http.wire import names

STATUS_OF: Final[Mapping[type[LoopsError], int]] = {
    UsageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFoundError: HTTPStatus.NOT_FOUND,
    UnknownRequestError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    OperationCancelledError: HTTPStatus.CONFLICT,
    BusyError: HTTPStatus.REQUEST_TIMEOUT,
    ServerShutdownError: HTTPStatus.SERVICE_UNAVAILABLE,
    UnreachableError: HTTPStatus.BAD_GATEWAY,
    ResultTimeoutError: HTTPStatus.GATEWAY_TIMEOUT,
    StalePolicyError: HTTPStatus.GATEWAY_TIMEOUT,
    SamplerTerminatedError: HTTPStatus.GONE,
    RemoteOpError: HTTPStatus.INTERNAL_SERVER_ERROR,
    CheckpointError: HTTPStatus.INTERNAL_SERVER_ERROR,
    PluginError: HTTPStatus.INTERNAL_SERVER_ERROR,
    TransportError: HTTPStatus.INTERNAL_SERVER_ERROR,
    LoopsError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The status of each class; a class that is not named here has its nearest base's."""

PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that say nothing against the request: it may be repeated with the same key."""

_LONGEST_TEXT: Final = 2_000


class WireError(BaseModel):
    """The JSON shape of every error.

    Attributes:
        code: the exception class's name.
        message: what was wrong.
        field: the argument or field that the message speaks of.
        hint: what to do about it.
        fields: the exception's other attributes that are set.
    """

    code: str
    message: str
    field: str | None = None
    hint: str | None = None
    fields: dict[str, ErrorField] = {}


def status_of(error: LoopsError) -> int:
    """Return the status that an error travels with."""
    return next(int(STATUS_OF[cls]) for cls in type(error).__mro__ if cls in STATUS_OF)


def write_error(error: LoopsError) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and JSON of an error."""
    body = error_to_body(error)
    others = {name: value for name, value in body.fields.items() if name not in ("field", "hint")}
    wire = WireError(
        code=body.code, message=body.message, field=error.field, hint=error.hint, fields=others
    )
    status = status_of(error)
    headers = {"Content-Type": names.JSON}
    if 400 <= status < 500 and status not in PASSING:
        headers[names.ERROR_SOURCE] = names.FINAL_ERROR
        headers[names.ERROR_CODE] = body.code
    if isinstance(error, BusyError) and error.retry_after_s is not None:
        headers["Retry-After"] = f"{math.ceil(error.retry_after_s)}"
    return status, headers, wire.model_dump_json().encode()


def read_error(status: int, headers: Mapping[str, str], content: bytes) -> LoopsError:
    """Return the error that a response of status >= 400 means.

    One of ours comes back as the class it was raised as. What another server says is read by its
    status: a `TransportError` for those in `PASSING`, a refusal for all others.

    Args:
        status: the response's status.
        headers: its headers, looked up without regard to case.
        content: its body, of any kind.
    """
    return read_own_error(content) or _foreign_error(status, headers, content)


def read_own_error(content: bytes) -> LoopsError | None:
    """Return the error that a body of `write_error` holds; None where it is another's body."""
    try:
        wire = WireError.model_validate_json(content)
    except ValidationError:
        return None
    fields = {**wire.fields, "field": wire.field, "hint": wire.hint}
    known: dict[str, ErrorField] = {
        name: value for name, value in fields.items() if value is not None
    }
    error = error_from_body(ErrorBody(code=wire.code, message=wire.message, fields=known))
    return error if type(error) is not LoopsError or wire.code == LoopsError.__name__ else None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a Retry-After header; None where it has none.

    A date is read against the response's own, so that no two clocks are compared.
    """
    asked = headers.get("Retry-After", "")
    try:
        seconds = float(asked)
    except ValueError:
        try:
            until, now = (parsedate_to_datetime(text) for text in (asked, headers.get("Date", "")))
            seconds = (until - now).total_seconds()
        except (TypeError, ValueError):  # no dates, or only one of them with a zone
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _foreign_error(status: int, headers: Mapping[str, str], content: bytes) -> LoopsError:
    message = f"the service answered {status}: {_text_of(content)}"
    is_final = headers.get(names.ERROR_SOURCE) == names.FINAL_ERROR
    pause_s = retry_after_s(headers)
    asks_to_wait = status in (408, 429) or (status in PASSING and pause_s is not None)
    if asks_to_wait and not is_final:
        return BusyError(message, retry_after_s=pause_s)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return ServerShutdownError(message)
    if status in PASSING and not is_final:
        return UnreachableError(message)
    if status == HTTPStatus.NOT_FOUND:
        return NotFoundError(message)
    if status == HTTPStatus.CONFLICT:
        return ConflictError(message)
    if status == HTTPStatus.NOT_IMPLEMENTED:
        return UnsupportedError(message)
    return UsageError(message, hint=_HINTS.get(status))


_HINTS: Final[Mapping[int, str]] = {
    401: "pass api_key, or set LOOPS_API_KEY",
    403: "the key may not do this",
    413: "the body is larger than the service takes: send less data in one call",
    431: "the headers are larger than the service takes",
}


def _text_of(content: bytes) -> str:
    """Return what a foreign error body says, shortened."""
    import json

    text = content.decode("utf-8", "replace").strip()
    try:
        parsed: object = json.loads(text)
    except ValueError:
        parsed = None
    if isinstance(parsed, dict):
        for name in ("detail", "error", "message"):
            value = parsed.get(name)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            if isinstance(value, str) and value:
                text = value
                break
    return text[:_LONGEST_TEXT] or "no reason given"
