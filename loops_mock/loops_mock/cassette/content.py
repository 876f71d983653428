"""What a call says, apart from what is new in every run: keys, counts and ids."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, final

from loops_core.types.base import WireModel
from loops_core.types.operation import OperationBody
from loops_core.types.routes import Call
from loops_mock.cassette.layout import content_digest, frame_digest
from loops_mock.cassette.scrubbing import Scrubber
from loops_mock.cassette.values import Encoded, encode, from_json, to_json

OWN_RUN: Final = "{run}"
"""Stands for the id of the run that a call belongs to."""

_NEW_IN_EVERY_RUN: Final = frozenset({"seq_id", "session_id", "reuse_from_session_id"})
_IN_THE_LANE: Final = frozenset({"run_id", "model"})
_SAME: Final[Mapping[str, str]] = {}


@final
@dataclass(frozen=True, slots=True)
class Content:
    """What a call says.

    Attributes:
        route: the name of its route.
        run: the id of the run that it belongs to.
        lane: whom it speaks to: the run, a kind of sampler, or nobody in particular.
        args: its query, path arguments and pin, those that are set.
        body: its body.
        key: equal for calls that say the same to whomever.
    """

    route: str
    run: str | None
    lane: str
    args: Mapping[str, Any]
    body: Encoded | None
    key: bytes


def content_of(
    call: Call[Any],
    scrubber: Scrubber,
    samplers: Mapping[str, str],
    names: Mapping[str, str] = _SAME,
) -> Content:
    """Return what a call says.

    Args:
        call: the call.
        scrubber: takes secrets out of it.
        samplers: the lane of each standalone sampler by its id.
        names: what to write for the ids of other runs.
    """
    run = run_of(call)
    lane = run or call.base_url or ""
    sampler = call.pin.sampler_id or call.path_args.get("sampler_id")
    if sampler is not None and not call.pin.run_id:
        lane = samplers.get(sampler, f"sampler {sampler}")
    args = _args_of(call)
    head = ""
    if args:
        head = rename_runs(clean(to_json(args), run, scrubber).decode(), names)
        args = from_json(head)
    body = None
    text, frames = b"", list[bytes]()
    if call.body is not None:
        encoded = encode(call.body, without=_without(call.body))
        text = clean(encoded.text, run, scrubber)
        if names:
            text = rename_runs(text.decode(), names).encode()
        body = Encoded(text, encoded.spans, encoded.buffers)
        frames = [
            frame_digest(dtype, buffer)
            for (dtype, _), buffer in zip(encoded.spans, encoded.buffers, strict=True)
        ]
    key = content_digest(f"{call.route.name}\n{head}".encode(), text, frames)
    return Content(call.route.name, run, lane, args, body, key)


def run_of(call: Call[Any]) -> str | None:
    """Return the id of the run that a call belongs to, wherever it says so."""
    named = call.run_id or call.pin.run_id or call.path_args.get("run_id")
    named = named or call.query.get("run_id") or getattr(call.body, "run_id", None)
    return str(named) if named else None


def clean(text: bytes, run: str | None, scrubber: Scrubber) -> bytes:
    """Return a JSON text without secrets and without the run's own id."""
    return rename_run(scrubber.text(text.decode()), run).encode()


def rename_run(text: str, run: str | None, to: str = OWN_RUN) -> str:
    """Return a JSON text with another word for the run, wherever that stands as an id."""
    if not run or run not in text:
        return text
    return _as_id(run).sub(lambda _: to, text)


def rename_runs(text: str, names: Mapping[str, str]) -> str:
    """Return a JSON text with other ids for runs, all exchanged at once."""
    for number, run in enumerate(names):
        text = rename_run(text, run, f"{{run {number}}}")
    for number, run in enumerate(names.values()):
        text = text.replace(f"{{run {number}}}", run)
    return text


@lru_cache(maxsize=1024)
def _as_id(run: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=[\"/:]){re.escape(run)}(?=[\"/?])")


def _without(body: WireModel) -> frozenset[str]:
    return (
        _NEW_IN_EVERY_RUN | _IN_THE_LANE if isinstance(body, OperationBody) else _NEW_IN_EVERY_RUN
    )


def _args_of(call: Call[Any]) -> dict[str, Any]:
    pin = {
        "checkpoint_path": call.pin.checkpoint_path,
        "min_policy_version": call.pin.min_policy_version,
    }
    args = {
        "query": dict(call.query),
        "path": {name: each for name, each in call.path_args.items() if name != "sampler_id"},
        "pin": {name: each for name, each in pin.items() if each is not None},
        "team": call.team_id,
    }
    return {name: each for name, each in args.items() if each}
