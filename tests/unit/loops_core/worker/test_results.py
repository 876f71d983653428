"""Waiting for results from threads and from event loops, and what a result says."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest
from tests.recovery.toy import PATIENCE_S, FakeClock, Gate, ToyMachine, look, save_of
from tests.unit.loops_core.worker.conftest import OpenQueue

from loops_core.clock import SystemClock
from loops_core.errors import RemoteOpError, UnknownRequestError, UsageError, error_from_body
from loops_core.types.operation import OperationKind, OperationStatus
from loops_core.types.training import ForwardBackwardOutput, SaveWeightsResponse
from loops_core.worker.results import make_error_body

HOUR_S: Final = 3600.0


def test_a_result_is_read_as_often_as_one_likes(open_queue: OpenQueue) -> None:
    queue = open_queue(ToyMachine())
    key = queue.submit(*save_of("good"))
    first = queue.wait(key, PATIENCE_S)
    assert first.result == SaveWeightsResponse(mode="toy", path="1:good")
    assert queue.wait(key, 0) == first


def test_those_who_wait_get_equal_results_that_are_nobody_elses(
    open_queue: OpenQueue, gate: Gate
) -> None:
    machine = ToyMachine(gate=gate)
    queue = open_queue(machine)
    key = queue.submit(*look())
    gate.wait_for(key)
    with ThreadPoolExecutor(2) as threads:
        waits = [threads.submit(queue.wait, key, PATIENCE_S) for _ in range(2)]
        gate.open()
        results = [wait.result().result for wait in waits]
    results.append(queue.wait(key, 0).result)
    assert results == [ForwardBackwardOutput(loss=0.0)] * 3
    assert len({id(result) for result in results}) == 3


def test_what_waits_is_pending(open_queue: OpenQueue, gate: Gate) -> None:
    queue = open_queue(ToyMachine(gate=gate))
    assert queue.wait(queue.submit(*save_of("good")), 0) == OperationStatus(status="pending")


def test_a_wait_ends_when_its_time_is_over(open_queue: OpenQueue, gate: Gate) -> None:
    queue = open_queue(ToyMachine(gate=gate))
    key = queue.submit(*save_of("good"))
    assert queue.wait(key, 0.001).status == "pending"


def test_an_unknown_operation_is_an_error(open_queue: OpenQueue) -> None:
    queue = open_queue(ToyMachine())
    with pytest.raises(UnknownRequestError, match="'nobody' is not known") as caught:
        queue.wait("nobody", PATIENCE_S)
    assert caught.value.operation_id == "nobody"


def test_a_result_expires_an_hour_after_its_end(
    open_queue: OpenQueue, fake_clock: FakeClock
) -> None:
    queue = open_queue(ToyMachine())
    key = queue.submit(*save_of("good"))
    queue.wait(key, PATIENCE_S)
    fake_clock.advance(HOUR_S - 1)
    assert queue.wait(key, 0).status == "done"
    fake_clock.advance(1)
    with pytest.raises(UnknownRequestError, match="has expired"):
        queue.wait(key, 0)


def test_an_expired_key_still_executes_nothing(
    open_queue: OpenQueue, fake_clock: FakeClock
) -> None:
    machine = ToyMachine()
    queue = open_queue(machine)
    queue.wait(queue.submit(*save_of("one"), idempotency_key="one"), PATIENCE_S)
    fake_clock.advance(2 * HOUR_S)
    assert queue.submit(*save_of("one"), idempotency_key="one") == "one"
    queue.wait(queue.submit(*save_of("last")), PATIENCE_S)
    assert machine.names == ["one", "last"]


def test_an_error_of_ours_keeps_its_class_and_fields(open_queue: OpenQueue) -> None:
    queue = open_queue(ToyMachine())
    key = queue.submit(*save_of("bad"))
    status = queue.wait(key, PATIENCE_S)
    assert status.error == "name 'bad' is bad: expected a good one"
    assert status.error_class == "UsageError"
    assert status.error_body is not None
    error = error_from_body(status.error_body)
    assert isinstance(error, UsageError)
    assert (error.field, error.operation_id, error.operation) == ("name", key, "save_state")


def test_a_foreign_error_keeps_its_class_name_and_message_only(open_queue: OpenQueue) -> None:
    queue = open_queue(ToyMachine())
    status = queue.wait(queue.submit(*save_of("odd")), PATIENCE_S)
    assert (status.error_class, status.error) == ("RuntimeError", "RuntimeError: odd is odd")
    assert status.error_body is not None
    assert isinstance(error_from_body(status.error_body), RemoteOpError)
    assert "Traceback" not in status.model_dump_json()


def test_a_long_message_is_cut() -> None:
    body = make_error_body(ValueError("x" * 1_000_000), operation_id="a", kind="forward")
    assert len(body.message) <= 2_000


def test_an_ending_wakes_only_who_waits_for_it(open_queue: OpenQueue, gate: Gate) -> None:
    queue = open_queue(ToyMachine(gate=gate), clock=SystemClock())
    first, second = (queue.submit(*save_of(name)) for name in ("one", "two"))

    async def wait_for_both() -> None:
        waiting = asyncio.create_task(queue.wait_async(second, PATIENCE_S))
        done = asyncio.create_task(queue.wait_async(first, PATIENCE_S))
        gate.let_pass()
        assert (await done).status == "done"
        assert not waiting.done()
        gate.let_pass()
        assert (await waiting).status == "done"

    asyncio.run(wait_for_both())


def test_a_cancelled_wait_leaves_nothing_behind(open_queue: OpenQueue, gate: Gate) -> None:
    queue = open_queue(ToyMachine(gate=gate), clock=SystemClock())
    key = queue.submit(*save_of("one"))

    async def give_up() -> None:
        waiting = asyncio.create_task(queue.wait_async(key, PATIENCE_S))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(give_up())
    assert not queue._results._waiters  # pyright: ignore[reportPrivateUsage]
    gate.let_pass()
    assert queue.wait(key, PATIENCE_S).status == "done"


def test_an_async_wait_ends_when_the_clock_says_so(open_queue: OpenQueue, gate: Gate) -> None:
    queue = open_queue(ToyMachine(gate=gate))  # its fake clock sleeps in no time
    key = queue.submit(*save_of("one"))
    assert asyncio.run(queue.wait_async(key, PATIENCE_S)).status == "pending"


def say_nothing(_loop: asyncio.AbstractEventLoop, _context: dict[str, Any]) -> None:
    """Handle what a loop has to report."""


def test_a_loop_that_was_closed_on_a_waiter_harms_nobody(open_queue: OpenQueue, gate: Gate) -> None:
    queue = open_queue(ToyMachine(gate=gate), clock=SystemClock())
    key = queue.submit(*save_of("one"))
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(say_nothing)  # tasks are left behind on purpose
    waiting = loop.create_task(queue.wait_async(key, PATIENCE_S))
    for _ in range(3):  # the log answers in order: the waiter knows by then that it has to wait
        loop.run_until_complete(queue.wait_async(key, 0))
    loop.close()
    gate.let_pass(2)
    assert queue.wait(key, PATIENCE_S).status == "done"
    assert queue.wait(queue.submit(*save_of("two")), PATIENCE_S).status == "done"
    with contextlib.suppress(RuntimeError):  # its own cleaning up meets the closed loop
        waiting.get_coro().close()


@pytest.mark.slow
def test_64_threads_and_two_event_loops_get_every_result(open_queue: OpenQueue, gate: Gate) -> None:
    queue = open_queue(ToyMachine(gate=gate), clock=SystemClock())
    keys = [queue.submit(*save_of(f"good-{n}")) for n in range(20)]
    all_started = threading.Barrier(64 + 2 + 1)

    def wait_in_a_thread() -> list[OperationStatus]:
        all_started.wait(PATIENCE_S)
        return [queue.wait(key, PATIENCE_S) for key in keys]

    def wait_in_a_loop() -> list[OperationStatus]:
        async def wait_for_all() -> list[OperationStatus]:
            waits = [queue.wait_async(key, PATIENCE_S) for key in keys for _ in range(10)]
            return await asyncio.gather(*waits)

        all_started.wait(PATIENCE_S)
        return asyncio.run(wait_for_all())[::10]

    with ThreadPoolExecutor(66) as pool:
        waiting = [pool.submit(wait_in_a_thread) for _ in range(64)]
        waiting += [pool.submit(wait_in_a_loop) for _ in range(2)]
        all_started.wait(PATIENCE_S)
        gate.let_pass(len(keys))
        expected = [
            OperationStatus(
                status="done",
                operation=OperationKind.SAVE_STATE,
                result=SaveWeightsResponse(mode="toy", path=f"{n + 1}:good-{n}"),
            )
            for n in range(20)
        ]
        assert all(future.result(PATIENCE_S) == expected for future in waiting)


async def test_a_wait_for_any_ends_with_the_first_that_has_ended(
    open_queue: OpenQueue, gate: Gate
) -> None:
    queue = open_queue(ToyMachine(gate=gate), clock=SystemClock())
    first, second = (queue.submit(*save_of(name)) for name in ("one", "two"))
    waiting = asyncio.ensure_future(queue.wait_any_async([second, first], PATIENCE_S))
    blocked = asyncio.ensure_future(asyncio.to_thread(queue.wait_any, [first, second], PATIENCE_S))
    await asyncio.to_thread(gate.let_pass, 1)
    assert list(await waiting) == [first]
    assert list(await blocked) == [first]


def test_a_wait_for_any_ends_when_its_time_is_over(open_queue: OpenQueue, gate: Gate) -> None:
    queue = open_queue(ToyMachine(gate=gate), clock=SystemClock())
    keys = [queue.submit(*save_of(name)) for name in ("one", "two")]
    assert queue.wait_any(keys, 0.001) == {}
    assert asyncio.run(queue.wait_any_async(keys, 0)) == {}
