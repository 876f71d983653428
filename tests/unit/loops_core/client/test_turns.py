"""Submits of one client: one at a time, in the order of the calls."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.loops_core.client.fakes import (
    FakeService,
    JumpingClock,
    make_client,
    make_datum,
    make_driver,
    threaded_service,
)

from loops_core.client.drivers import Flow
from loops_core.client.turns import Turn, Turnstile
from loops_core.errors import BusyError, UnreachableError, UsageError
from loops_core.types.operation import OperationBody
from loops_core.types.training import AdamParams


def seq_ids(service: FakeService) -> list[int | None]:
    bodies = [call.body for call in service.calls]
    return [body.seq_id for body in bodies if isinstance(body, OperationBody)]


def test_operations_are_counted_from_one() -> None:
    service = FakeService()
    client = make_client(service)
    client.forward_backward([make_datum()])
    client.optim_step(AdamParams())
    assert seq_ids(service) == [1, 2]


def test_a_failed_submit_leaves_a_gap_and_the_next_one_passes() -> None:
    service = FakeService()
    client = make_client(service)
    service.failures["optim_step"] = [UsageError("refused")]
    with pytest.raises(UsageError):
        client.optim_step(AdamParams())
    client.optim_step(AdamParams())
    assert seq_ids(service) == [1, 2]


def test_an_argument_that_is_refused_takes_no_number() -> None:
    service = FakeService()
    client = make_client(service)
    with pytest.raises(UsageError):
        client.save_state("../up")
    client.save_state("up")
    assert seq_ids(service) == [1]


def test_an_interrupted_submit_lets_the_next_one_pass() -> None:
    service = FakeService()
    client = make_client(service)
    service.failures["optim_step"] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        client.optim_step(AdamParams())
    assert client.optim_step(AdamParams()).operation_id == "op0"


def test_a_repeated_submit_has_the_same_key_and_holds_its_place() -> None:
    service = FakeService()
    client = make_client(service)
    service.failures["optim_step"] = [UnreachableError("broke")]
    client.optim_step(AdamParams())
    first, second = service.sent("optim_step")
    assert dataclasses.replace(second, timeout_s=first.timeout_s) == first
    assert first.idempotency_key


@pytest.mark.slow
def test_submits_of_many_threads_and_loops_never_overlap() -> None:
    service = threaded_service()
    client = make_client(service)
    inside, most = 0, 0
    lock = threading.Lock()

    def look() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        threading.Event().wait(0.0005)
        with lock:
            inside -= 1

    service.on_submit = look

    def some() -> None:
        for _ in range(10):
            client.optim_step(AdamParams())

    async def some_async() -> None:
        await asyncio.gather(*(client.optim_step_async(AdamParams()) for _ in range(10)))

    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(some) for _ in range(6)]
        jobs += [pool.submit(lambda: asyncio.run(some_async())) for _ in range(2)]
        for job in jobs:
            job.result(timeout=60)
    assert most == 1
    assert seq_ids(service) == list(range(1, 81))


async def test_tasks_submit_in_the_order_in_which_they_were_started() -> None:
    service = FakeService()
    client = make_client(service)
    rates = [n / 100 for n in range(1, 11)]
    await asyncio.gather(*(client.optim_step_async(AdamParams(learning_rate=r)) for r in rates))
    bodies = [call.body.model_dump() for call in service.sent("optim_step") if call.body]
    assert [body["adam_params"]["learning_rate"] for body in bodies] == rates


async def test_a_blocking_submit_behind_a_task_of_the_same_loop_is_refused() -> None:
    service = threaded_service()
    client = make_client(service)
    service.submits_pass.clear()
    task = asyncio.create_task(client.optim_step_async(AdamParams()))
    await asyncio.sleep(0)
    with pytest.raises(UsageError, match=r"\*_async"):
        client.optim_step(AdamParams())
    service.submits_pass.set()
    await task
    client.optim_step(AdamParams())


async def test_a_blocking_submit_behind_another_thread_waits_inside_an_event_loop_too() -> None:
    service = threaded_service()
    client = make_client(service)
    entered, go_on = threading.Event(), threading.Event()

    def hold_the_first() -> None:
        if not service.keys and not entered.is_set():
            entered.set()
            go_on.wait(60)

    service.on_submit = hold_the_first
    thread = threading.Thread(target=client.optim_step, args=(AdamParams(),))
    thread.start()
    await asyncio.to_thread(entered.wait, 60)
    threading.Timer(0.01, go_on.set).start()
    client.optim_step(AdamParams())
    thread.join(60)
    assert seq_ids(service) == [1, 2]


async def test_a_cancelled_task_in_the_queue_lets_the_others_pass() -> None:
    service = threaded_service()
    client = make_client(service)
    service.submits_pass.clear()
    tasks = [asyncio.create_task(client.optim_step_async(AdamParams())) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    service.submits_pass.set()
    first, second, third = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(second, asyncio.CancelledError)
    assert not isinstance(first, BaseException)
    assert not isinstance(third, BaseException)
    assert seq_ids(service) == [1, 3]


def test_a_thousand_places_given_up_at_once_do_not_block_the_next() -> None:
    service = FakeService()
    turnstile = Turnstile(service.clock)
    turns = [Turn() for _ in range(1000)]
    flows: list[Flow[None]] = [turnstile.wait(turn, count=1, timeout_s=60) for turn in turns]
    for flow in flows:
        next(flow, None)
    for turn in reversed(turns):
        turnstile.leave(turn)
    last = Turn()
    make_driver(service).run(turnstile.wait(last, count=1, timeout_s=60))
    assert last.first_seq_id == 1001


def test_a_wait_in_the_queue_is_bounded() -> None:
    clock = JumpingClock()
    turnstile = Turnstile(clock)
    first, second = Turn(), Turn()
    assert next(turnstile.wait(first, count=1, timeout_s=60), "passed") == "passed"
    flow = turnstile.wait(second, count=1, timeout_s=60)
    next(flow)
    clock.sleep(61)
    with pytest.raises(BusyError, match="60 s"):
        flow.send(None)
