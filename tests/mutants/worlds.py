"""A simulated world for each rule, in which calls and workers meet faults that a client survives.

A rule that says what comes of operations passes here too: a client asks again, a key runs once, and
a worker that comes back is as it was.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final, final

from loops_core.worker.queue_settings import QueueSettings
from loops_mock.contract.subject import Subject
from loops_mock.contract.target import Target
from loops_mock.simulation.faults import (
    Duplicate,
    FaultPlan,
    LoseAnswer,
    Restart,
    Status,
)
from loops_mock.simulation.world import URL, World

PLAN: Final = FaultPlan(
    (
        Restart("optim_step", at=1, after_s=0.0),
        LoseAnswer("optim_step", at=2),
        Status("retrieve", at=2, code=502),
        Duplicate("forward_backward", at=1),
        Restart("forward", at=1, after_s=0.0),
        Status("forward", at=3, code=408, retry_after_s=3.0),
        LoseAnswer("save_weights_for_sampler", at=1),
        Restart("save_state", at=1, after_s=0.5),
        Restart("policy_version", at=1, after_s=0.0),
        Restart("sample", at=1, after_s=0.0),
        Restart("load_state_with_optimizer", at=1, after_s=0.5),
    )
)
"""What happens in every world; fixed, so that a failure is the same at every run."""


SUBJECTS: Final = (
    "futures.",
    "idempotency.",
    "order.",
    "passes.",
    "publishing.",
    "resume.",
    "retries.",
    "versions.",
)
"""Beginnings of the ids of rules that say what comes of operations, whatever happens on the way."""


@final
class WorldSubject:
    """A subject in a world of its own; a context manager, as `run_rules` uses a subject."""

    def __init__(self, *, seed: int, num_rows: int) -> None:
        """Begin the world."""
        queue = QueueSettings(snapshot_entries=3)
        self._world = World(seed % 1000, PLAN, durable=True, queue=queue)
        target = Target(URL, base_model="mock-tiny", plugins=[self._world], clock=self._world.clock)
        self._target = target
        self._subject = target.subject(seed=seed, num_rows=num_rows)

    def __enter__(self) -> Subject:
        """Return the subject."""
        return self._subject.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close subject, target and world."""
        self._subject.__exit__(kind, error, traceback)
        self._target.close()
        self._world.close()


def open_world(*, seed: int, num_rows: int) -> Subject:
    """Return the subject of one rule, in a world of its own."""
    return WorldSubject(seed=seed, num_rows=num_rows)  # type: ignore[return-value]  # see there
