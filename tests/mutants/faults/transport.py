"""Faults of the HTTP transport: headers not sent, answers read wrongly."""

from __future__ import annotations

from typing import Final

from tests.mutants.editing import Edit
from tests.mutants.mutant import Mutant

_HEADERS: Final = "loops_transport_http.client.requests:_add_call_headers"

TRANSPORT: Final = (
    Mutant(
        "transport.key-not-sent",
        "the header Idempotency-Key is missing: every retry runs again",
        "transport",
        (Edit(_HEADERS, "call.idempotency_key is not None", "False"),),
    ),
    Mutant(
        "transport.path-not-sent",
        "the header X-Checkpoint-Path is missing: pinned clients sample live weights",
        "transport",
        (Edit(_HEADERS, "pin.checkpoint_path is not None", "False"),),
    ),
    Mutant(
        "transport.floor-not-sent",
        "the header X-Min-Policy-Version is missing: a client made from a path never follows",
        "transport",
        (
            Edit(
                _HEADERS,
                "if pin.min_policy_version:\n"
                "    headers[names.MIN_POLICY_VERSION] = str(pin.min_policy_version)",
                "pass",
            ),
        ),
    ),
    Mutant(
        "transport.version-not-read",
        "policy_version of every response is None",
        "transport",
        (
            Edit(
                "loops_transport_http.client.replies:read_reply",
                "int(version) if version.isascii() and version.isdigit() else None",
                "None",
            ),
        ),
    ),
    Mutant(
        "transport.zero-version-not-read",
        "samples of the base model have no policy version",
        "transport",
        (
            Edit(
                "loops_transport_http.client.replies:read_reply",
                "int(version) if version.isascii() and version.isdigit() else None",
                "(int(version) or None) if version.isdigit() else None",
            ),
        ),
    ),
    Mutant(
        "transport.results-mixed-up",
        "of several operations that are polled at once each gets the result of another",
        "transport",
        (
            Edit(
                "loops_transport_http.client.polls:ThreadPolls._ask_for",
                "self._carry(_shared(call, asking)).operations",
                "(lambda got: dict(zip(got, list(got.values())[::-1])))"
                "(self._carry(_shared(call, asking)).operations)",
            ),
        ),
    ),
    Mutant(
        "transport.pending-is-an-error",
        "an operation that takes longer than one poll fails in the client",
        "transport",
        (
            Edit(
                "loops_transport_http.client.replies:_known_answer",
                "call.route.name == routes.RETRIEVE.name and is_timeout",
                "False",
            ),
            Edit(
                "loops_transport_http.client.replies:_refusal",
                "error = read_error(status, headers, content)",
                "error = read_error(status, headers, content)\n"
                "if status == 408:\n"
                "    return UsageError('408')",
            ),
        ),
    ),
    Mutant(
        "transport.gone-is-retried",
        "a result that has expired is asked for until the time is over",
        "transport",
        (
            Edit(
                "loops_transport_http.client.replies:_refusal",
                "error = read_error(status, headers, content)",
                "error = read_error(status, headers, content)\n"
                "if status in _GONE:\n"
                "    return UnreachableError('404')",
            ),
        ),
    ),
)
"""The faults of the HTTP transport."""
