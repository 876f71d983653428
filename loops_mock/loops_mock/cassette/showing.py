"""A cassette as lines of text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from loops_core.errors import NotFoundError
from loops_mock.cassette.comparing import shown
from loops_mock.cassette.steps import Step, steps_of
from loops_mock.cassette.tape import Cassette


def describe(tape: Cassette) -> Iterator[str]:
    """Return what a cassette holds: a head, and a line a call."""
    size = tape.path.stat().st_size
    yield (
        f"{tape.path}: {len(tape.calls)} calls, {len(tape.results)} results, "
        f"{len(tape.files)} files, {tape.num_frames} tensors of {tape.frame_bytes:,} bytes, "
        f"{size:,} bytes in all"
    )
    for url in dict.fromkeys(tape.services):
        yield f"recorded at {url}"
    if not tape.is_whole:
        yield "the recording broke off: what follows may not be all"
    for step in _all_steps(tape):
        yield f"{step.number:>6}  {step.route:<26}{step.run or 'service':<12}{_outcome(step)}"


def describe_call(tape: Cassette, number: int) -> Iterator[str]:
    """Return one call in full.

    Raises:
        NotFoundError: there is no call of this number.
    """
    found = next((step for step in _all_steps(tape) if step.number == number), None)
    if found is None:
        raise NotFoundError(
            f"call {number} is not on the cassette: expected one that "
            f"`loops cassette show {tape.path}` lists",
            kind="recorded call",
            name=str(number),
        )
    yield f"call {found.number}: {found.route} of {found.run or 'the service'}"
    yield "sent " + json.dumps(_plain(found.sent), indent=2, ensure_ascii=False)
    yield "received " + json.dumps(_plain(found.received), indent=2, ensure_ascii=False)


def _all_steps(tape: Cassette) -> list[Step]:
    steps = [*steps_of(tape), *steps_of(tape, readings=True)]
    return sorted(steps, key=lambda step: step.number)


def _outcome(step: Step) -> str:
    if step.outcome is None:
        return "(result not read)"
    if step.outcome.error is not None:
        return f"{step.outcome.error.code}: {step.outcome.error.message[:60]}"
    return ""


def _plain(value: Any) -> Any:
    """Return a JSON value in which arrays are described."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_plain(each) for each in cast("list[Any]", value)]
    return shown(value) if hasattr(value, "dtype") else value
