"""Queues over the toy machine, closed when a test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from tests.recovery.toy import FakeClock, Gate, ToyMachine

from loops_core.clock import Clock
from loops_core.worker.host import OperationQueue
from loops_core.worker.queue_settings import QueueSettings


class OpenQueue(Protocol):
    """Opens a queue over a machine: in memory and on the fake clock, unless told otherwise."""

    def __call__(
        self,
        machine: ToyMachine,
        directory: Path | None = None,
        settings: QueueSettings | None = None,
        clock: Clock | None = None,
    ) -> OperationQueue: ...


@pytest.fixture
def fake_clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Return a gate, which lets everybody pass when the test ends."""
    made = Gate()
    yield made
    made.open()


@pytest.fixture
def open_queue(fake_clock: FakeClock, gate: Gate) -> Iterator[OpenQueue]:
    close: list[Callable[[], object]] = []

    def open_one(
        machine: ToyMachine,
        directory: Path | None = None,
        settings: QueueSettings | None = None,
        clock: Clock | None = None,
    ) -> OperationQueue:
        queue = OperationQueue.open(
            directory, machine, settings=settings, clock=clock or fake_clock
        )
        close.append(queue.close)
        return queue

    yield open_one
    gate.open()
    for close_one in close:
        close_one()
