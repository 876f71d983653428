"""Reading the call that a request means: its path, its query and its headers."""

from __future__ import annotations

import math
from typing import Any, Final

from starlette.requests import Request

from loops_core.errors import NotFoundError, UsageError
from loops_core.types.base import WireModel
from loops_core.types.operation import LoadStateBody, OperationBody
from loops_core.types.routes import BatchPart, Call, SamplerPin
from loops_transport_http.server.paths import SAMPLER_ID, TRAINER_ID, Found
from loops_transport_http.wire import names

LOCAL: Final = "local"
"""The run, and its sampler, of clients that have no control plane."""

_NUL: Final = "\0"
_LONGEST_NUMBER: Final = 18
"""Digits of a number in a header: what fits 64 bits."""


def read_call(request: Request, found: Found, body: WireModel | None) -> Call[Any]:
    """Return the call that a request along a route means.

    Raises:
        UsageError: a header or a path is not what it should be.
    """
    route, path_args = found.route, dict(found.path_args)
    _check_texts(request, found, body)
    headers = request.headers
    run_id = headers.get(names.RUN_ID)
    if route.service == "trainer":
        named = path_args.pop(TRAINER_ID)
        if named == LOCAL and isinstance(body, OperationBody):
            body = body.model_copy(update={"run_id": None})
        run_id = _agreed(named, run_id)
    return Call(
        route=route,
        path_args=path_args,
        query=dict(request.query_params),
        body=body,
        run_id=run_id,
        idempotency_key=headers.get(names.IDEMPOTENCY_KEY),
        pin=_pin(request, path_args) if route.service == "sampler" else SamplerPin(),
        part=_part(headers.get(names.PART)),
        affinity_key=headers.get(names.AFFINITY_KEY),
        hold_s=_hold_s(headers.get(names.HOLD)),
    )


def _check_texts(request: Request, found: Found, body: WireModel | None) -> None:
    """Refuse the one character that no identifier has and some databases cannot hold."""
    for name, value in found.path_args.items():
        if _NUL in value:
            raise NotFoundError(f"{name} {value!r}: there is no such thing", kind=name, name=value)
    for name, value in request.query_params.items():
        if _NUL in value:
            raise UsageError(f"{name} has a NUL character: expected none", field=name)
    is_named = found.route.service == "control" or isinstance(body, LoadStateBody)
    if is_named and body is not None:
        for name, value in body:
            if isinstance(value, str) and _NUL in value:
                raise UsageError(f"{name} has a NUL character: expected none", field=name)


def _agreed(named: str, told: str | None) -> str:
    if named != LOCAL and told not in (None, named):
        raise UsageError(
            f"{names.RUN_ID} is {told!r}, but the address is that of run {named!r}",
            field=names.RUN_ID,
        )
    return named


def _pin(request: Request, path_args: dict[str, str]) -> SamplerPin:
    headers = request.headers
    sampler_id = path_args.pop(SAMPLER_ID)
    return SamplerPin(
        run_id=None if sampler_id == LOCAL else headers.get(names.RUN_ID),
        sampler_id=sampler_id,
        checkpoint_path=headers.get(names.CHECKPOINT_PATH),
        min_policy_version=_whole(names.MIN_POLICY_VERSION, headers.get(names.MIN_POLICY_VERSION)),
    )


def _whole(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        raise UsageError(f"{name} must be a whole number, not {text!r}", field=name)
    return int(text)


def _hold_s(text: str | None) -> float:
    if text is None:
        return names.LONGEST_HOLD_S
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise UsageError(f"{names.HOLD} must be seconds >= 0, not {text!r}", field=names.HOLD)
    return min(seconds, names.LONGEST_HOLD_S)


def _part(text: str | None) -> BatchPart | None:
    if text is None:
        return None
    index, slash, count = text.partition("/")
    numbers = [
        int(number) if number.isdecimal() and len(number) <= _LONGEST_NUMBER else -1
        for number in (index, count)
    ]
    if not slash or min(numbers) < 0:
        raise UsageError(f"{names.PART} must be INDEX/COUNT, not {text!r}", field=names.PART)
    return BatchPart(*numbers)
