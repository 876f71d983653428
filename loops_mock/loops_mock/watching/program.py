"""The program that a watch has seen: its events by run, as the audits read them; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self, TypeAlias

from loops_core.types.operation import OperationKind
from loops_mock.watching.events import Event, Sampled, Settled, Submitted

RunKey: TypeAlias = str | int
"""A run by its id; by the service where the run has none."""

LOADS: Final = frozenset(
    {
        OperationKind.INIT_TRAINER_SERVER,
        OperationKind.LOAD_STATE,
        OperationKind.LOAD_STATE_WITH_OPTIMIZER,
    }
)
"""Operations that replace weights and throw gradients away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Everything seen, sorted.

    Attributes:
        events: all of it, in the order in which it was asked for.
        outcomes: what was read of each operation, by its id.
        operations: the operations of each run that did not fail, as far as was read.
        samples: all samples.
    """

    events: Sequence[Event]
    outcomes: dict[str, Settled] = field(default_factory=dict[str, Settled])
    operations: dict[RunKey, list[Submitted]] = field(default_factory=dict[RunKey, list[Submitted]])
    samples: list[Sampled] = field(default_factory=list[Sampled])

    @classmethod
    def of(cls, events: Sequence[Event]) -> Self:
        """Return the events as a program."""
        program = cls(events=events)
        for event in events:
            if isinstance(event, Settled):
                program.outcomes.setdefault(event.operation_id, event)
            elif isinstance(event, Sampled):
                program.samples.append(event)
        for event in events:
            if isinstance(event, Submitted) and not program.failed(event):
                program.operations.setdefault(run_key(event), []).append(event)
        return program

    def failed(self, operation: Submitted) -> bool:
        """Tell whether an operation is known to have failed, which leaves the trainer as it was."""
        outcome = self.outcomes.get(operation.operation_id)
        return outcome is not None and outcome.error is not None


def run_key(operation: Submitted) -> RunKey:
    """Return what tells an operation's run from others."""
    return operation.service if operation.run_id is None else operation.run_id
