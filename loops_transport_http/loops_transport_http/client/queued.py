"""Samples of shared capacity: queued as an operation, which is polled until it has ended."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

import httpx

from loops_core.client import polling
from loops_core.client.drivers import Flow, Sleep, send
from loops_core.clock import Clock
from loops_core.errors import LoopsError, RemoteOpError, SampleTimeoutError, TransportError
from loops_core.types import routes
from loops_core.types.operation import Accepted, OperationStatus
from loops_core.types.routes import Call
from loops_core.types.sampling import Completions
from loops_transport_http.client.replies import read_reply

_POLL_MARGIN_S: Final = 5.0
"""How much longer than its hold a poll may take on the way."""

_CANCEL_S: Final = 5.0


def is_queued(call: Call[Any], response: httpx.Response) -> bool:
    """Tell whether a sample was not answered but queued."""
    is_accepted = response.status_code == HTTPStatus.ACCEPTED
    return is_accepted and call.route.name == routes.SAMPLE.name


def await_sample(
    call: Call[Any], response: httpx.Response, clock: Clock, timeout_s: float
) -> Flow[Completions]:
    """Return the result of a queued sample.

    Args:
        call: the sample.
        response: what it was answered with.
        clock: where time comes from.
        timeout_s: how long to wait.

    Raises:
        SampleTimeoutError: it had not ended in time; it was asked not to run.
        RemoteOpError: it failed.
    """
    submit: Call[Accepted] = replace(
        call,
        route=replace(routes.SAMPLE, reply_type=Accepted),
    )
    operation_id = read_reply(submit, response).operation_id
    started, attempts = clock.monotonic(), 0
    while (left_s := timeout_s - (clock.monotonic() - started)) > 0:
        hold_s = min(polling.HOLD_S, left_s)
        asked = clock.monotonic()
        try:
            status = yield from send(_poll(call, operation_id, hold_s))
        except TransportError as error:
            attempts += 1
            pause_s = polling.pause_after_failure(
                error, attempts=attempts, left_s=left_s, jitter=0.5
            )
            yield Sleep(left_s if pause_s is None else pause_s)
            continue
        if status.status != "pending":
            return _read(status)
        held_s = clock.monotonic() - asked
        yield Sleep(polling.pause_after_early_answer(1, held_s=held_s, hold_s=hold_s))
    with suppress(LoopsError):
        yield from send(_about(call, operation_id, routes.CANCEL, timeout_s=_CANCEL_S))
    raise SampleTimeoutError(
        f"the queued sample {operation_id} had not ended after {timeout_s:g} s", timeout=timeout_s
    )


def _poll(call: Call[Any], operation_id: str, hold_s: float) -> Call[OperationStatus]:
    asking = _about(call, operation_id, routes.RETRIEVE, timeout_s=hold_s + _POLL_MARGIN_S)
    return replace(asking, hold_s=hold_s)


def _about(call: Call[Any], operation_id: str, route: Any, *, timeout_s: float) -> Call[Any]:
    return Call(
        route=route,
        base_url=call.base_url,
        path_args={"operation_id": operation_id},
        run_id=call.run_id,
        pin=call.pin,
        timeout_s=timeout_s,
    )


def _read(status: OperationStatus) -> Completions:
    if status.status == "done":
        try:
            return Completions.model_validate(status.result)
        except ValueError as error:
            raise RemoteOpError("the queued sample's result is no completion") from error
    body = status.error_body
    message = status.error or (body.message if body else "the sample failed without a reason")
    raise RemoteOpError(message, error_class=status.error_class)
