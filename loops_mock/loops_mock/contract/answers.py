"""What a response over plain HTTP has to be: a success, or a refusal for good with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from loops_mock.contract.rule import NotOffered, expect

if TYPE_CHECKING:
    import httpx

Json = dict[str, Any]

RETRIED: Final = frozenset({400, 404, 408, 502, 503})
"""Statuses that published clients repeat, of submits or of samples."""


def ok(reply: httpx.Response) -> Json:
    """Return the JSON object of a response that must be a success.

    Raises:
        CheckFailed: it is an error, or no JSON object.
    """
    expect(
        reply.is_success,
        f"{reply.request.method} {reply.request.url.path} should succeed",
        status=reply.status_code,
        body=reply.text[:300],
    )
    try:
        found: object = reply.json()
    except ValueError:
        found = None
    expect(isinstance(found, dict), "the answer should be a JSON object", body=reply.text[:300])
    return found  # type: ignore[return-value]  # just checked


def refused(reply: httpx.Response, what: str, *, naming: str | None = None) -> None:
    """Return if a request was refused for good, in a way that a published client passes on at once.

    Published clients take 400, 404, 408 and 502 for "not ready yet" and repeat them for up to an
    hour, unless the response says that it is final.

    Args:
        reply: the response.
        what: what was asked, for the report.
        naming: a word that the reason must contain.

    Raises:
        CheckFailed: it was taken, would be repeated, or the reason is not said.
    """
    status, text = reply.status_code, reply.text[:300]
    expect(400 <= status < 500, f"{what} should be refused with a 4xx", status=status, body=text)
    is_final = reply.headers.get("X-Baseten-Error-Source") == "06" or _is_bad_request(reply)
    expect(
        status not in RETRIED or is_final,
        f"{what} should be refused with a status that published clients do not repeat, such as 422",
        status=status,
        body=text,
    )
    reason = reason_of(reply)
    if naming is not None:
        expect(naming in reason, f"the refusal of {what} should name {naming!r}", reason=reason)


def reason_of(reply: httpx.Response) -> str:
    """Return what an error response says, where published clients look for it.

    Raises:
        CheckFailed: it says nothing there.
    """
    body = _object(reply)
    found = (body.get(name) for name in ("detail", "error", "message"))
    reason = next((text for text in found if isinstance(text, str) and text), None)
    expect(
        reason is not None,
        "an error's JSON should say why in detail, error or message",
        status=reply.status_code,
        body=reply.text[:300],
    )
    return str(reason)


def _is_bad_request(reply: httpx.Response) -> bool:
    body = _object(reply)
    inner: Json = body["error"] if isinstance(body.get("error"), dict) else {}
    return "BadRequestError" in (body.get("type"), inner.get("type"))


def _object(reply: httpx.Response) -> Json:
    """Return the JSON object of a response; an empty one where it has none."""
    try:
        found: Any = reply.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def offered(reply: httpx.Response, what: str) -> httpx.Response:
    """Return the response, unless it says that the service does not have this call.

    Raises:
        NotOffered: it does; published clients do not make the call.
    """
    if reply.status_code in (404, 405, 501):
        raise NotOffered(f"{what} (answered {reply.status_code})")
    return reply
