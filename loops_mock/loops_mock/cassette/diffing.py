"""The first operation in which two cassettes differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

from loops_mock.cassette.comparing import Difference, first_difference
from loops_mock.cassette.steps import Step, steps_of
from loops_mock.cassette.tape import Cassette

_NEW_IN_EVERY_RUN: Final = frozenset(
    {"created_at", "last_modified", "url", "base_url", "size_bytes", "operation_id"}
)
"""Fields that tell when and where something was, not what."""


@final
@dataclass(frozen=True, slots=True)
class FirstDifference:
    """Where two cassettes part.

    Attributes:
        place: the operation's number, from 1; readings follow the operations.
        part: whether the programs sent something else, or the services answered something else.
        first: the operation in the first cassette; None = it has ended by then.
        second: the operation in the second.
        difference: the field, and what stands there.
    """

    place: int
    part: Literal["sent", "received", "operation"]
    first: Step | None
    second: Step | None
    difference: Difference

    def __str__(self) -> str:
        """Return it as two lines."""
        step = self.first or self.second
        assert step is not None
        whom = f" of {step.run}" if step.run else ""
        numbers = " and ".join(f"call {each.number}" for each in (self.first, self.second) if each)
        return (
            f"operation {self.place}: {step.route}{whom} ({numbers})\n"
            f"  {self.part} {self.difference.field}: "
            f"{self.difference.first} / {self.difference.second}"
        )


def diff_cassettes(
    first: Cassette, second: Cassette, *, any_order: bool = False
) -> FirstDifference | None:
    """Return where the cassettes differ first; None = they tell of the same run.

    Ids are compared by the order in which they appear; times, addresses and links are not compared.

    Args:
        first: one cassette.
        second: the other.
        any_order: whether operations may have been sent in another order, as by threads; they are
            then compared by what was sent.
    """
    ours, theirs = steps_of(first), steps_of(second)
    found = _compare(ours, _like(ours, theirs) if any_order else theirs)
    if found is not None:
        return found
    asked, also = steps_of(first, readings=True), steps_of(second, readings=True)
    return _compare(asked, _like(asked, also), offset=len(ours), is_ended=False)


def _compare(
    ours: Sequence[Step], theirs: Sequence[Step | None], *, offset: int = 0, is_ended: bool = True
) -> FirstDifference | None:
    for place, (one, other) in enumerate(zip(ours, theirs, strict=False), start=offset + 1):
        if other is None:
            if is_ended:
                return _alone(place, one, None)
            continue
        if not one.is_same(other):
            found = _between(place, one, other)
            if found is not None:
                return found
    if not is_ended or len(ours) == len(theirs):
        return None
    place = min(len(ours), len(theirs))
    if len(ours) > len(theirs):
        return _alone(offset + place + 1, ours[place], None)
    return _alone(offset + place + 1, None, theirs[place])


def _between(place: int, one: Step, other: Step) -> FirstDifference | None:
    if (one.route, one.run) != (other.route, other.run):
        names = [f"{step.route} of {step.run}" if step.run else step.route for step in (one, other)]
        return FirstDifference(place, "operation", one, other, Difference("name", *names))
    sent = first_difference(one.sent, other.sent)
    if sent is not None:
        return FirstDifference(place, "sent", one, other, sent)
    received = first_difference(one.received, other.received, ignore=_NEW_IN_EVERY_RUN)
    if received is not None:
        return FirstDifference(place, "received", one, other, received)
    return None


def _alone(place: int, one: Step | None, other: Step | None) -> FirstDifference:
    told = ["(ended)" if step is None else step.route for step in (one, other)]
    return FirstDifference(place, "operation", one, other, Difference("name", *told))


def _like(ours: Sequence[Step], theirs: Sequence[Step]) -> list[Step | None]:
    """Return the other cassette's steps in this one's order: each beside what says the same.

    What has no counterpart stands beside what is left over of its route, then at the end.
    """
    waiting: defaultdict[object, list[Step]] = defaultdict(list)
    for step in theirs:
        waiting[_mark(step)].append(step)
    beside = [waiting[_mark(step)].pop(0) if waiting[_mark(step)] else None for step in ours]
    left = sorted((step for steps in waiting.values() for step in steps), key=lambda s: s.number)
    for place, step in enumerate(ours):
        if beside[place] is None:
            alike = next((each for each in left if each.route == step.route), None)
            if alike is not None:
                left.remove(alike)
                beside[place] = alike
    return [*beside, *left]


def _mark(step: Step) -> object:
    body = step.body
    sent = None if body is None else (body.text, tuple(bytes(each) for each in body.buffers))
    return step.route, step.run, step.args, sent
