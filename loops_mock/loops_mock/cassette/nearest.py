"""Why a call is not on a cassette: what comes nearest, and where that differs first."""

from __future__ import annotations

from typing import Any, Final

from loops_mock.cassette.comparing import first_difference, num_differences
from loops_mock.cassette.content import Content
from loops_mock.cassette.tape import Cassette, RecordedCall
from loops_mock.cassette.values import to_tree

_MOST: Final = 500
"""Most recorded calls that are looked at to find the nearest."""


def explain(tape: Cassette, content: Content, drawn: int) -> str:
    """Return why the call is unknown, for the error's message.

    Args:
        tape: what was recorded.
        content: what the call says.
        drawn: how many calls of this content were answered before.
    """
    start = f"{content.route} is not on the cassette {str(tape.path)!r}"
    if drawn:
        return (
            f"{start} once more: it was recorded {drawn} times with this content, and all of them "
            "have been answered; expected the calls that were recorded; record the run again"
        )
    alike = [call for call in tape.calls if call.content.route == content.route]
    if not alike:
        routes = ", ".join(sorted({call.content.route for call in tape.calls})) or "nothing"
        return f"{start}: no {content.route} was recorded, only {routes}; record the run again"
    same_lane = [call for call in alike if call.content.lane == content.lane]
    mine = tree_of(content)
    nearest = min((same_lane or alike)[:_MOST], key=lambda call: _distance(call, mine))
    found = first_difference(tree_of(nearest.content), mine)
    if found is None:
        return (
            f"{start} for {content.lane or 'this service'!r}: call {nearest.number} says the same "
            f"of {nearest.content.lane or 'the service'!r}; record the run again"
        )
    return (
        f"{start}: the nearest is call {nearest.number}, which differs first in {found.field}: "
        f"{found.first} was recorded, {found.second} was sent; record the run again, or make the "
        "code send what it sent then"
    )


def tree_of(content: Content) -> dict[str, Any]:
    """Return what a call says as one JSON value with arrays, to compare."""
    body: Any = {} if content.body is None else to_tree(content.body)
    return {**content.args, **body}


def _distance(call: RecordedCall, mine: dict[str, Any]) -> int:
    return num_differences(tree_of(call.content), mine)
