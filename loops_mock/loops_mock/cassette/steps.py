"""What a cassette's program did, step by step, in names that two cassettes share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, final

from loops_core.types.operation import ErrorBody
from loops_mock.cassette.kinds import is_drawn, is_submit
from loops_mock.cassette.tape import Cassette, Outcome, RecordedCall
from loops_mock.cassette.values import Encoded, from_json, to_json, to_tree

_KINDS: Final = {
    "create_session": (("session", ("session", "id")),),
    "create_trainer": (("run", ("run", "id")), ("deployment", ("run", "deployment_id"))),
    "create_sampler": (
        ("sampler", ("sampler", "id")),
        ("model", ("sampler", "model_id")),
        ("deployment", ("sampler", "deployment_id")),
    ),
}
"""Where a reply names something new: the word for it, and the way to its id."""


@final
@dataclass(frozen=True)
class Step:
    """One call of a program with what came of it.

    Attributes:
        number: its place in the order of sending.
        route: what it asked.
        run: whom it spoke to, such as `run 1`; empty = the service.
        args: query, path and pin, as JSON.
        body: what it sent.
        outcome: the reply; for an operation its result, None where nobody read it.
    """

    number: int
    route: str
    run: str
    args: bytes
    body: Encoded | None
    outcome: Outcome | None

    @cached_property
    def sent(self) -> dict[str, Any]:
        """Return what was sent, with arrays."""
        body: Any = {} if self.body is None else to_tree(self.body)
        return {**from_json(self.args), **body}

    @cached_property
    def received(self) -> Any:
        """Return what came back, with arrays."""
        if self.outcome is None:
            return {"result": "(not read)"}
        if self.outcome.error is not None:
            return {"error": self.outcome.error.model_dump(mode="json", exclude={"fields"})}
        assert self.outcome.reply is not None
        return to_tree(self.outcome.reply)

    def is_same(self, other: Step) -> bool:
        """Tell quickly whether both say the same to the last byte; False = perhaps not."""
        if (self.route, self.run, self.args) != (other.route, other.run, other.args):
            return False
        if not _same(self.body, other.body):
            return False
        ours, theirs = self.outcome, other.outcome
        if ours is None or theirs is None or ours.error or theirs.error:
            return ours == theirs
        return _same(ours.reply, theirs.reply)


def steps_of(tape: Cassette, *, readings: bool = False) -> list[Step]:
    """Return what the program did, in the order of sending.

    Args:
        tape: the cassette.
        readings: whether to return what it only asked instead of what it did.
    """
    names = _Names(tape)
    return [_step(tape, call, names) for call in tape.calls if is_drawn(call) is not readings]


def _step(tape: Cassette, call: RecordedCall, names: _Names) -> Step:
    content, outcome = call.content, call.outcome
    found: Outcome | None = outcome
    if is_submit(content.route) and outcome.reply is not None:
        found = tape.results.get(from_json(outcome.reply.text)["operation_id"])
    return Step(
        number=call.number,
        route=content.route,
        run=names.word(content.run or content.lane),
        args=names.rename(to_json(content.args)),
        body=None if content.body is None else names.encoded(content.body),
        outcome=None if found is None else names.outcome(found),
    )


@final
class _Names:
    """Words for the ids of one cassette, by first appearance."""

    def __init__(self, tape: Cassette) -> None:
        self._words: dict[str, str] = {}
        counts: dict[str, int] = {}
        for call in tape.calls:
            for kind, found in _ids_in(call):
                if found not in self._words:
                    counts[kind] = counts.get(kind, 0) + 1
                    self._words[found] = f"{kind} {counts[kind]}"
        known = "|".join(re.escape(each) for each in sorted(self._words, key=len, reverse=True))
        self._pattern = re.compile(rf"(?<=[\"/:])(?:{known})(?=[\"/?])") if known else None
        self._prose = re.compile(rf"\b(?:{known})\b") if known else None

    def word(self, name: str) -> str:
        return self._words.get(name, name)

    def rename(self, text: bytes) -> bytes:
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: self._words[found[0]], text.decode()).encode()

    def encoded(self, value: Encoded) -> Encoded:
        return Encoded(self.rename(value.text), value.spans, value.buffers)

    def outcome(self, outcome: Outcome) -> Outcome:
        if outcome.reply is not None:
            return Outcome(reply=self.encoded(outcome.reply))
        assert outcome.error is not None
        error = outcome.error
        if self._prose is not None:
            message = self._prose.sub(lambda found: self._words[found[0]], error.message)
            error = ErrorBody(code=error.code, message=message)
        return Outcome(error=error)


def _ids_in(call: RecordedCall) -> Iterator[tuple[str, str]]:
    """Return the ids that a reply names for the first time, each with what it is of."""
    reply = call.outcome.reply
    if reply is None:
        return
    if call.content.route == "list_checkpoints":
        for checkpoint in from_json(reply.text)["checkpoints"]:
            yield "checkpoint", str(checkpoint["id"])
    for kind, way in _KINDS.get(call.content.route, ()):
        found: Any = from_json(reply.text)
        for name in way:
            found = found.get(name)
        if isinstance(found, str) and found:
            yield kind, found


def _same(first: Encoded | None, second: Encoded | None) -> bool:
    if first is None or second is None:
        return first is second
    if first.text != second.text or list(first.spans) != list(second.spans):
        return False
    pairs = zip(first.buffers, second.buffers, strict=True)
    return all(one == other for one, other in pairs)
