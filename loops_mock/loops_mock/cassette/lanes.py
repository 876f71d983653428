"""Which recorded run a run of the replay is, where several were made alike at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

from loops_core.types.routes import CREATE_TRAINER
from loops_mock.cassette.kinds import is_submit
from loops_mock.cassette.tape import Cassette, Outcome, RecordedCall
from loops_mock.cassette.values import from_json

_NOTHING: Final[Mapping[str, str]] = {}


@final
class Lanes:
    """Draws recorded calls, each once, for the runs of a replay.

    A run of the replay is the recorded one whose id it was given. Runs that were asked for alike
    change places as soon as one of them says what only another said, so that it does not matter
    which of two threads made its run first. Not safe from several threads.
    """

    def __init__(self, tape: Cassette) -> None:
        """Nothing is drawn yet."""
        self._results = tape.results
        self._places: defaultdict[tuple[str, bytes], list[RecordedCall]] = defaultdict(list)
        self._twins: dict[str, list[str]] = {}
        self._owners: dict[str, RecordedCall] = {}
        alike: defaultdict[bytes, list[str]] = defaultdict(list)
        for call in tape.calls:
            content, reply = call.content, call.outcome.reply
            self._places[content.lane, content.key].append(call)
            if reply is None:
                continue
            if is_submit(content.route):
                self._owners.setdefault(_field(reply.text, "operation_id"), call)
            elif content.route == CREATE_TRAINER.name:
                alike[content.key].append(_field(reply.text, "run", "id"))
        for runs in alike.values():
            self._twins |= {run: runs for run in runs if len(runs) > 1}
        self._place_of: dict[str, str] = {}
        self._handle_of: dict[str, str] = {}
        self._drawn: Counter[tuple[str, bytes]] = Counter()

    @property
    def names(self) -> Mapping[str, str]:
        """Return the recorded run of each run that is not the one whose id it has."""
        return self._place_of if self._twins else _NOTHING

    def recorded(self, lane: str, key: bytes) -> Sequence[RecordedCall]:
        """Return what was recorded of a content."""
        return self._places.get((self._place(lane), key), ())

    def handle(self, run: str | None) -> str | None:
        """Return what the replay calls a recorded run."""
        return None if run is None else self._handle_of.get(run, run)

    def submit_of(self, operation: str) -> RecordedCall | None:
        """Return the recorded call that handed an operation over."""
        return self._owners.get(operation)

    def drawn(self, lane: str, key: bytes) -> int:
        """Return how many calls of a content were answered."""
        return self._drawn[lane, key]

    def draw(self, lane: str, key: bytes) -> RecordedCall | None:
        """Return the next recorded call of a content, or None if there is none left."""
        number = self._drawn[lane, key]
        found = self.recorded(lane, key)
        if number >= len(found):
            twin = self._better(lane, key, number)
            if twin is None:
                return None
            self._swap(lane, twin)
            found = self.recorded(lane, key)
        self._drawn[lane, key] = number + 1
        return found[number]

    def _better(self, run: str, key: bytes, number: int) -> str | None:
        """Return a run to change places with: nothing that was told so far would be another."""
        for twin in self._twins.get(run, ()):
            fits = twin != run and len(self.recorded(twin, key)) > number
            if fits and self._may_move(run, twin) and self._may_move(twin, run):
                return twin
        return None

    def _may_move(self, run: str, other: str) -> bool:
        """Tell whether what a run was told so far is what it would be told in the other's place."""
        for (lane, key), count in self._drawn.items():
            if lane != run:
                continue
            here, there = self.recorded(run, key), self.recorded(other, key)
            if len(there) < count:
                return False
            if any(self._told(here[n]) != self._told(there[n]) for n in range(count)):
                return False
        return True

    def _told(self, call: RecordedCall) -> object:
        outcome: Outcome | None = call.outcome
        if is_submit(call.content.route) and call.outcome.reply is not None:
            outcome = self._results.get(_field(call.outcome.reply.text, "operation_id"))
        if outcome is None or outcome.reply is None:
            return outcome
        return outcome.reply.text, [bytes(raw) for raw in outcome.reply.buffers]

    def _place(self, lane: str) -> str:
        return self._place_of.get(lane, lane)

    def _swap(self, one: str, other: str) -> None:
        places = self._place(other), self._place(one)
        self._place_of[one], self._place_of[other] = places
        self._handle_of[places[0]], self._handle_of[places[1]] = one, other


def samplers_of(tape: Cassette) -> list[tuple[str, bytes]]:
    """Return the standalone samplers, each with the content of the call that made it."""
    return [
        (_field(call.outcome.reply.text, "sampler", "id"), call.content.key)
        for call in tape.calls
        if call.content.route == "create_sampler" and not call.content.run and call.outcome.reply
    ]


def _field(text: bytes, *names: str) -> str:
    tree: Any = from_json(text)
    for name in names:
        tree = tree[name]
    return str(tree)
