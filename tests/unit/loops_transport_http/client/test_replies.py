"""Responses as replies, or as the errors that they mean: the table of statuses."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from loops_core.errors import (
    BusyError,
    ConflictError,
    LoopsError,
    NotFoundError,
    RemoteOpError,
    ServerShutdownError,
    TransportError,
    UnknownRequestError,
    UnreachableError,
    UnsupportedError,
    UsageError,
)
from loops_core.types import routes
from loops_core.types.operation import OperationKind, OperationStatus
from loops_core.types.routes import Call
from loops_core.types.training import OptimStepResponse
from loops_transport_http.client.replies import read_reply
from loops_transport_http.wire import bodies, names
from loops_transport_http.wire.errors import write_error

SUBMIT: Call[Any] = Call(route=routes.SUBMIT[OperationKind.OPTIM_STEP])
POLL: Call[Any] = Call(route=routes.RETRIEVE)
CANCEL: Call[Any] = Call(route=routes.CANCEL)
SAMPLE: Call[Any] = Call(route=routes.SAMPLE)
JSON = {"Content-Type": "application/json"}


def response(
    status: int, content: bytes | str = b"", headers: dict[str, str] | None = None
) -> httpx.Response:
    request = httpx.Request("POST", "http://h/x")
    return httpx.Response(status, headers=headers or JSON, content=content, request=request)


def error_of(call: Call[Any], answer: httpx.Response) -> LoopsError:
    with pytest.raises(LoopsError) as raised:
        read_reply(call, answer)
    return raised.value


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, UsageError, False),
        (401, UsageError, False),
        (403, UsageError, False),
        (404, NotFoundError, False),
        (405, UsageError, False),
        (409, ConflictError, False),
        (413, UsageError, False),
        (422, UsageError, False),
        (431, UsageError, False),
        (408, BusyError, True),
        (429, BusyError, True),
        (500, UnreachableError, True),
        (501, UnsupportedError, False),
        (502, UnreachableError, True),
        (503, ServerShutdownError, True),
        (504, UnreachableError, True),
    ],
)
def test_a_status_says_whether_the_call_may_be_repeated(
    status: int, kind: type[LoopsError], retryable: bool
) -> None:
    error = error_of(SUBMIT, response(status, '{"detail": "because"}'))
    assert isinstance(error, kind)
    assert isinstance(error, httpx.HTTPStatusError)
    assert error.retryable is isinstance(error, TransportError) is retryable
    assert "because" in str(error)


@pytest.mark.parametrize("status", [408, 429])
def test_a_gateways_final_refusal_is_never_repeated(status: int) -> None:
    error = error_of(SUBMIT, response(status, "", {names.ERROR_SOURCE: names.FINAL_ERROR}))
    assert not error.retryable


@pytest.mark.parametrize(
    ("asked", "expected"), [("2.5", 2.5), ("-1", 0.0), ("nan", None), ("Wed, 21 Oct 2026", None)]
)
def test_retry_after_is_read_where_it_is_a_number(asked: str, expected: float | None) -> None:
    error = error_of(SUBMIT, response(429, "", {"Retry-After": asked}))
    assert isinstance(error, BusyError)
    assert error.retry_after_s == expected


@pytest.mark.parametrize(
    ("until", "expected"),
    [("Wed, 21 Oct 2026 07:28:30 GMT", 30.0), ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0)],
)
def test_a_date_to_retry_after_is_read_against_the_responses_own(
    until: str, expected: float
) -> None:
    headers = {"Retry-After": until, "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}
    error = error_of(SUBMIT, response(503, "", headers))
    assert isinstance(error, BusyError)
    assert error.retry_after_s == expected


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("call", [SUBMIT, POLL], ids=["submit", "poll"])
def test_every_passing_status_may_ask_to_wait(call: Call[Any], status: int) -> None:
    error = error_of(call, response(status, "", {"Retry-After": "7"}))
    assert isinstance(error, BusyError)
    assert error.retry_after_s == 7


def test_a_poll_that_was_held_to_its_end_is_pending() -> None:
    assert read_reply(POLL, response(408)).status == "pending"


@pytest.mark.parametrize("status", [404, 410])
def test_a_poll_of_what_nobody_knows_is_an_unknown_request(status: int) -> None:
    assert type(error_of(POLL, response(status))).__name__ == "UnknownRequestError"
    assert isinstance(error_of(POLL, response(status)), UnknownRequestError)


@pytest.mark.parametrize("content", ["", "[]", "<html>", '{"status": "else"}', '{"status"'])
def test_a_poll_that_cannot_be_read_is_asked_again(content: str) -> None:
    assert isinstance(error_of(POLL, response(200, content)), TransportError)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        "nonsense",
        '{"operation_id": ""}',
        '{"operation_id": null}',
        '{"operation_id": "o", "schema_version": 2}',
    ],
)
def test_an_acceptance_that_is_none_is_told(content: str) -> None:
    error = error_of(SUBMIT, response(202, content))
    assert isinstance(error, RemoteOpError)
    assert "optim_step" in error.message


def test_an_acceptance_may_lack_its_schema_version() -> None:
    assert read_reply(SUBMIT, response(200, '{"operation_id": "o"}')).operation_id == "o"


@pytest.mark.parametrize(("text", "version"), [("7", 7), ("", None), ("x", None), ("-1", None)])
def test_the_policy_version_is_read_from_its_header(text: str, version: int | None) -> None:
    headers = {**JSON, names.POLICY_VERSION: text}
    assert read_reply(SAMPLE, response(200, '{"choices": []}', headers)).policy_version == version


def test_a_packed_reply_is_read() -> None:
    result = OptimStepResponse(metrics={"step": 1.0})
    status = OperationStatus(status="done", operation=OperationKind.OPTIM_STEP, result=result)
    content = bodies.encode(status, media_type=names.TENSORS)
    reply = read_reply(POLL, response(200, content, {"Content-Type": names.TENSORS}))
    assert reply.result == result


def test_a_redirect_is_told_and_not_followed() -> None:
    where = "https://user:pw@else.test/x?token=secret"
    error = error_of(SUBMIT, response(307, "", {"Location": where}))
    assert isinstance(error, UsageError)
    assert "else.test" in error.message
    assert "secret" not in error.message
    assert "pw" not in error.message


def test_a_foreign_conflict_of_a_cancel_means_that_it_was_too_late() -> None:
    assert read_reply(CANCEL, response(409)).cancelled is False


def test_our_conflict_of_a_cancel_is_raised() -> None:
    status, headers, content = write_error(ConflictError("no"))
    assert isinstance(error_of(CANCEL, response(status, content, headers)), ConflictError)


@pytest.mark.parametrize("status", [404, 405])
def test_a_service_without_cancel_is_told_from_one_without_the_operation(status: int) -> None:
    assert isinstance(error_of(CANCEL, response(status)), UnsupportedError)
    own, headers, content = write_error(UnknownRequestError("gone"))
    assert isinstance(error_of(CANCEL, response(own, content, headers)), UnknownRequestError)
