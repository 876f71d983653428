"""One result, many waiters: threads, event loops, and waiters that give up."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.loops_core.client.fakes import (
    FakeService,
    done,
    failed,
    make_client,
    threaded_service,
    until,
    until_async,
)

from loops_core.errors import RemoteOpError, ResultTimeoutError, UsageError
from loops_core.types.training import AdamParams, OptimStepResponse

STEPPED = OptimStepResponse(metrics={"step": 1.0})


def poll_is_held(service: FakeService) -> bool:
    return sum(service.in_flight.values()) > 0


@pytest.mark.slow
def test_64_threads_and_two_event_loops_share_one_poll() -> None:
    service = threaded_service()
    future = make_client(service).optim_step(AdamParams())
    started = threading.Barrier(67, timeout=60)

    def wait() -> OptimStepResponse:
        started.wait()
        return future.result(timeout=60)

    def wait_in_a_loop() -> OptimStepResponse:
        async def gathered() -> list[OptimStepResponse]:
            return await asyncio.gather(*(future.result_async(timeout=60) for _ in range(16)))

        started.wait()
        return asyncio.run(gathered())[-1]

    with ThreadPoolExecutor(66) as pool:
        jobs = [pool.submit(wait) for _ in range(64)]
        jobs += [pool.submit(wait_in_a_loop) for _ in range(2)]
        started.wait()
        until(lambda: poll_is_held(service))
        service.settle(future.operation_id, done(STEPPED))
        results = [job.result(timeout=60) for job in jobs]
    assert all(result is results[0] for result in results)
    assert service.most_in_flight == 1


def test_every_one_of_many_threads_gets_its_own_error() -> None:
    service = threaded_service()
    future = make_client(service).optim_step(AdamParams())
    with ThreadPoolExecutor(16) as pool:
        jobs = [pool.submit(future.result, 60) for _ in range(16)]
        until(lambda: poll_is_held(service))
        service.settle(future.operation_id, failed("no gradients"))
        errors = [job.exception(timeout=60) for job in jobs]
    assert all(isinstance(error, RemoteOpError) for error in errors)
    assert len({id(error) for error in errors}) == 16


def test_a_short_wait_ends_on_time_though_a_longer_one_holds_the_poll() -> None:
    service = threaded_service()
    future = make_client(service).optim_step(AdamParams())
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(future.result, 60)
        until(lambda: poll_is_held(service))
        with pytest.raises(ResultTimeoutError):
            future.result(timeout=0.02)
        assert service.num_polls == 1
        service.settle(future.operation_id, done(STEPPED))
        assert long.result(timeout=60) == STEPPED


def test_a_waiter_takes_over_when_the_one_that_polls_gives_up() -> None:
    service = threaded_service()
    future = make_client(service).optim_step(AdamParams())
    with ThreadPoolExecutor(2) as pool:
        short = pool.submit(future.result, 0.05)
        until(lambda: poll_is_held(service))
        long = pool.submit(future.result, 60)
        assert isinstance(short.exception(timeout=60), ResultTimeoutError)
        until(lambda: service.num_polls == 2)
        service.settle(future.operation_id, done(STEPPED))
        assert long.result(timeout=60) == STEPPED


def test_a_thread_takes_over_from_a_cancelled_task() -> None:
    service = threaded_service()
    future = make_client(service).optim_step(AdamParams())

    async def wait_and_be_cancelled() -> None:
        task = asyncio.create_task(future.result_async(timeout=60))
        await until_async(lambda: poll_is_held(service))
        thread = threading.Thread(target=lambda: results.append(future.result(60)))
        thread.start()
        threads.append(thread)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    results: list[OptimStepResponse] = []
    threads: list[threading.Thread] = []
    asyncio.run(wait_and_be_cancelled())
    service.settle(future.operation_id, done(STEPPED))
    threads[0].join(60)
    assert results == [STEPPED]


async def test_a_task_waits_for_a_poll_that_a_thread_holds() -> None:
    service = threaded_service()
    future = make_client(service).optim_step(AdamParams())
    thread = threading.Thread(target=future.result)
    thread.start()
    await until_async(lambda: poll_is_held(service))
    asyncio.get_running_loop().call_later(0.01, service.settle, future.operation_id, done(STEPPED))
    assert await future == STEPPED
    assert service.num_polls == 1
    thread.join(60)


async def test_a_blocking_wait_behind_a_task_of_the_same_loop_is_refused() -> None:
    service = threaded_service()
    future = make_client(service).optim_step(AdamParams())
    task = asyncio.create_task(future.result_async())
    await until_async(lambda: poll_is_held(service))
    with pytest.raises(UsageError, match="await"):
        future.result(timeout=60)
    service.settle(future.operation_id, done(STEPPED))
    assert await task == STEPPED


async def test_a_task_s_own_timeout_ends_its_wait() -> None:
    service = threaded_service()
    future = make_client(service).optim_step(AdamParams())
    first = asyncio.create_task(future.result_async(timeout=60))
    with pytest.raises(ResultTimeoutError):
        await future.result_async(timeout=0.02)
    service.settle(future.operation_id, done(STEPPED))
    assert await first == STEPPED


def test_cancel_wakes_the_thread_whose_poll_is_held() -> None:
    service = threaded_service()
    future = make_client(service).optim_step(AdamParams())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(future.exception, 60)
        until(lambda: poll_is_held(service))
        assert future.cancel()
        error = waiting.result(timeout=60)
    assert type(error).__name__ == "OperationCancelledError"


def test_a_future_that_is_waited_for_after_its_loop_has_ended_still_answers() -> None:
    service = threaded_service()
    client = make_client(service)
    future = asyncio.run(client.optim_step_async(AdamParams()))
    service.settle(future.operation_id, done(STEPPED))
    assert future.result() == STEPPED


async def test_done_is_answered_beside_a_task_of_the_same_loop() -> None:
    service = threaded_service()
    future = make_client(service).optim_step(AdamParams())
    task = asyncio.create_task(future.result_async())
    await until_async(lambda: poll_is_held(service))
    assert not future.done()
    service.settle(future.operation_id, done(STEPPED))
    await task
    assert future.done()
