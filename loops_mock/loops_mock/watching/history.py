"""What became of one run's weights: when they changed, when they were published; pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from loops_core.types.operation import OperationKind
from loops_mock.watching.events import Sampled, Settled, Submitted
from loops_mock.watching.program import LOADS

_PUBLISH: Final = OperationKind.SAVE_WEIGHTS_FOR_SAMPLER


@dataclass(frozen=True, slots=True)
class Published:
    """One publish.

    Attributes:
        number: its position in the program.
        version: the policy version that it made.
        updates: how often the weights had been changed before.
    """

    number: int
    version: int
    updates: int


@dataclass(frozen=True, slots=True)
class History:
    """One run's weights.

    Attributes:
        changes: positions of the operations that changed them, in order.
        publishes: what was published, in order; before the first, version 0 answers.
    """

    changes: Sequence[int]
    publishes: Sequence[Published]

    @classmethod
    def of(cls, operations: Sequence[Submitted], outcomes: Mapping[str, Settled]) -> Self:
        """Return the history of a run's operations.

        The loads with which a trainer starts are no change, nor is a step without gradients. A
        publish that nobody read is taken to have made the version after the one before it.
        """
        changes: list[int] = []
        publishes: list[Published] = []
        has_begun = has_gradients = False
        for operation in operations:
            if operation.kind in LOADS:
                changes += [operation.number] if has_begun else []
                has_gradients = False
            elif operation.kind is OperationKind.OPTIM_STEP:
                changes += [operation.number] if has_gradients else []
                has_gradients = False
            elif operation.kind is OperationKind.FORWARD_BACKWARD:
                has_gradients = True
            elif operation.kind is _PUBLISH:
                outcome = outcomes.get(operation.operation_id)
                told = None if outcome is None else outcome.version
                last = publishes[-1].version if publishes else 0
                version = last + 1 if told is None else told
                publishes.append(Published(operation.number, version, len(changes)))
            has_begun = has_begun or operation.kind not in LOADS
        return cls(changes, publishes)

    def newest_before(self, number: int) -> Published | None:
        """Return the last publish before a position."""
        before = [each for each in self.publishes if each.number < number]
        return before[-1] if before else None

    def steps_behind(self, sample: Sampled) -> int:
        """Return how often the weights had been changed since those that answered a sample.

        Counted when the sample was asked; 0 where it is not known what answered.
        """
        updates = self._updates_at(sample.version)
        return 0 if updates is None else bisect_left(self.changes, sample.number) - updates

    def versions_behind(self, sample: Sampled, number: int) -> int:
        """Return how many policies newer than a sample's were published before a position.

        A publish of unchanged weights is no newer policy.
        """
        updates = self._updates_at(sample.version)
        if updates is None:
            return 0
        newer = {
            each.updates
            for each in self.publishes
            if each.number < number and each.updates > updates
        }
        return len(newer)

    def _updates_at(self, version: int | None) -> int | None:
        """Return how often the weights had been changed when a version was made."""
        if version == 0:
            return 0
        return next((each.updates for each in self.publishes if each.version == version), None)
