"""Submits from an event loop: the same as others, and nobody is held up."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from pydantic import SerializerFunctionWrapHandler, model_serializer
from tests.recovery.toy import PATIENCE_S, Gate, ToyMachine, look, save_of
from tests.unit.loops_core.worker.conftest import OpenQueue
from tests.unit.loops_core.worker.test_host import fill

from loops_core.clock import SystemClock
from loops_core.errors import (
    BusyError,
    ConflictError,
    ServerShutdownError,
    UsageError,
)
from loops_core.types.datum import Datum, ModelInput
from loops_core.types.operation import ForwardBody, OperationKind, SaveStateBody
from loops_core.worker.host import QueueStats
from loops_core.worker.queue_settings import QueueSettings


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_submit_from_an_event_loop_is_the_same_submit(
    open_queue: OpenQueue, tmp_path: Path, on_disk: bool
) -> None:
    machine = ToyMachine()
    queue = open_queue(machine, tmp_path if on_disk else None, clock=SystemClock())

    async def submit() -> None:
        assert await queue.submit_async(*save_of("good"), idempotency_key="a") == "a"
        assert await queue.submit_async(*save_of("good"), idempotency_key="a") == "a"
        with pytest.raises(ConflictError, match="'a' was used before with another body"):
            await queue.submit_async(*save_of("other"), idempotency_key="a")
        with pytest.raises(UsageError, match="idempotency_key is"):
            await queue.submit_async(*save_of("good"), idempotency_key="")
        with pytest.raises(UsageError, match="optim_step takes a OptimStepBody"):
            await queue.submit_async(OperationKind.OPTIM_STEP, SaveStateBody(name="good"))
        last = await queue.submit_async(*save_of("last"))
        assert (await queue.wait_async(last, PATIENCE_S)).status == "done"

    asyncio.run(submit())
    assert machine.names == ["good", "last"]
    assert queue.stats() == QueueStats(num_queued=0, queued_bytes=0, running=None)
    assert queue.close()
    with pytest.raises(ServerShutdownError):
        asyncio.run(queue.submit_async(*look()))


def test_a_submit_from_an_event_loop_waits_for_room_as_others_do(
    open_queue: OpenQueue, gate: Gate
) -> None:
    machine = ToyMachine(gate=gate)
    settings = QueueSettings(max_queued=2, submit_wait_s=PATIENCE_S)
    queue = open_queue(machine, settings=settings, clock=SystemClock())
    fill(queue, gate)

    async def submit_three() -> list[str]:
        names = ("d", "e", "f")
        waiting = [
            asyncio.create_task(queue.submit_async(*save_of(name), idempotency_key=name))
            for name in names
        ]
        await asyncio.sleep(0)
        assert await queue.submit_async(*save_of("b"), idempotency_key="b") == "b"
        assert not any(task.done() for task in waiting)
        gate.open()
        return await asyncio.gather(*waiting)

    assert asyncio.run(submit_three()) == ["d", "e", "f"]
    assert queue.wait("f", PATIENCE_S).status == "done"
    assert machine.names == ["runs", "b", "c", "d", "e", "f"]


def test_a_submit_from_an_event_loop_is_refused_over_the_bound(
    open_queue: OpenQueue, gate: Gate
) -> None:
    settings = QueueSettings(max_queued=2, submit_wait_s=0.001, retry_after_s=7)
    queue = open_queue(ToyMachine(gate=gate), settings=settings, clock=SystemClock())
    fill(queue, gate)
    with pytest.raises(BusyError, match=r"2 operations with \d+ bytes wait") as caught:
        asyncio.run(queue.submit_async(*save_of("d")))
    assert caught.value.retry_after_s == 7


def test_a_large_body_is_not_packed_on_the_event_loop(open_queue: OpenQueue) -> None:
    queue = open_queue(ToyMachine(), clock=SystemClock())
    packed_on: list[str] = []

    class Watched(ForwardBody):
        @model_serializer(mode="wrap")
        def watch(self, write: SerializerFunctionWrapHandler) -> object:
            packed_on.append(threading.current_thread().name)
            return write(self)

    for length in (8, 100_000):
        data = [Datum(model_input=ModelInput.from_ints([1] * length))]
        asyncio.run(queue.submit_async(OperationKind.FORWARD, Watched(data=data)))
    assert packed_on[0] == threading.current_thread().name
    assert packed_on[1] != threading.current_thread().name


def test_a_submit_that_is_cancelled_while_it_waits_takes_no_room(
    open_queue: OpenQueue, gate: Gate
) -> None:
    machine = ToyMachine(gate=gate)
    settings = QueueSettings(max_queued=2, submit_wait_s=PATIENCE_S)
    queue = open_queue(machine, settings=settings, clock=SystemClock())
    fill(queue, gate)

    async def give_up() -> None:
        waiting = asyncio.create_task(queue.submit_async(*save_of("d")))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(give_up())
    gate.open()
    assert queue.wait("c", PATIENCE_S).status == "done"
    assert machine.names == ["runs", "b", "c"]
    assert queue.stats().num_queued == 0
