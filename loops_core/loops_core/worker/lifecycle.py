"""The states of a log entry and the steps between them, as a table.

An entry is appended as `queued`. The one thread that applies entries takes the oldest queued entry,
which makes it `running`, and ends it as `done` or `failed`. These two and `cancelled` are final: a
final entry never changes again, so a result that was read once reads the same for as long as it is
kept.

Three rules follow from "nothing lost and nothing twice":

- Only a queued entry can be cancelled. A running one may already have changed the trainer.
- A running entry whose process died becomes queued again and keeps its place: its effect lived in
  the memory that is gone, and what it may have written outside must be safe to write again.
- A failed entry has changed nothing, so replay passes over it, as it passes over a cancelled one.

Every step has exactly one state before it. The log writes a step as "set the state after where the
state is the one before", so a step that was overtaken changes nothing and says so.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from loops_core.types.operation import OperationKind


class EntryState(StrEnum):
    """Where an entry is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Return whether the entry will never change again."""
        return self in FINAL


class EntryStep(StrEnum):
    """What can happen to an entry."""

    START = "start"
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    INTERRUPT = "interrupt"


class Transition(NamedTuple):
    """The states before and after a step."""

    before: EntryState
    after: EntryState


TRANSITIONS: Final[dict[EntryStep, Transition]] = {
    EntryStep.START: Transition(EntryState.QUEUED, EntryState.RUNNING),
    EntryStep.SUCCEED: Transition(EntryState.RUNNING, EntryState.DONE),
    EntryStep.FAIL: Transition(EntryState.RUNNING, EntryState.FAILED),
    EntryStep.CANCEL: Transition(EntryState.QUEUED, EntryState.CANCELLED),
    EntryStep.INTERRUPT: Transition(EntryState.RUNNING, EntryState.QUEUED),
}
"""Every step that exists; there are no others."""

FINAL: Final = frozenset({EntryState.DONE, EntryState.FAILED, EntryState.CANCELLED})
"""The states that nothing leads out of."""

READ_ONLY: Final = frozenset({OperationKind.FORWARD})
"""Operations that leave the state as it was: never replayed, so their bodies go when they end."""

READ_OUTSIDE: Final = frozenset({OperationKind.LOAD_STATE, OperationKind.LOAD_STATE_WITH_OPTIMIZER})
"""Operations whose effect depends on files outside the log.

A snapshot is taken right after one, so that recovery does not depend on those files being there.
"""
