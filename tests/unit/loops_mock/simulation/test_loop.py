"""The virtual loop: time jumps, order is fixed, and what never comes is an error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from loops_core.errors import UsageError
from loops_mock.simulation.loop import VirtualLoop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


def test_an_hour_passes_at_once(loop: VirtualLoop) -> None:
    loop.run_until_complete(asyncio.sleep(3600.0))
    assert loop.time() == 3600.0


def test_timers_of_one_time_run_in_the_order_of_their_making(loop: VirtualLoop) -> None:
    ran: list[int] = []
    for number in range(50):
        loop.call_at(1.0, ran.append, number)
    loop.call_at(0.5, ran.append, -1)
    loop.run_until_complete(asyncio.sleep(2.0))
    assert ran == [-1, *range(50)]


def test_a_cancelled_timer_does_not_run_and_takes_no_time(loop: VirtualLoop) -> None:
    ran: list[int] = []
    timers = [loop.call_at(100.0, ran.append, number) for number in range(1000)]
    for timer in timers:
        timer.cancel()
    loop.run_until_complete(asyncio.sleep(1.0))
    assert (ran, loop.time()) == ([], 1.0)


def test_the_tools_of_asyncio_work(loop: VirtualLoop) -> None:
    async def work() -> list[object]:
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def put() -> None:
            await asyncio.sleep(5.0)
            await queue.put(1)

        async with asyncio.TaskGroup() as group:
            group.create_task(put())
            first = await queue.get()
        late: object = None
        try:
            async with asyncio.timeout(2.0):
                await asyncio.Event().wait()
        except TimeoutError as error:
            late = type(error)
        inline = await asyncio.to_thread(threading.get_ident)
        both = await asyncio.gather(asyncio.sleep(1.0, "a"), asyncio.sleep(2.0, "b"))
        return [first, late, inline == threading.get_ident(), both, asyncio.get_running_loop()]

    assert loop.run_until_complete(work()) == [1, TimeoutError, True, ["a", "b"], loop]
    assert loop.time() == 9.0


def test_an_error_in_an_executor_is_the_future_s(loop: VirtualLoop) -> None:
    async def work() -> None:
        await asyncio.to_thread(int, "x")

    with pytest.raises(ValueError, match="invalid literal"):
        loop.run_until_complete(work())


def test_waiting_for_what_never_comes_is_an_error(loop: VirtualLoop) -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    with pytest.raises(UsageError, match="nothing is left to happen"):
        loop.run_until_complete(work())


def test_a_second_thread_is_refused(loop: VirtualLoop) -> None:
    errors: list[BaseException] = []

    def use() -> None:
        for call in (
            lambda: loop.run_until_complete(asyncio.sleep(1.0)),
            lambda: loop.call_soon_threadsafe(print),
        ):
            try:
                call()
            except UsageError as error:
                errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert ["second thread" in str(error) for error in errors] == [True, True]


def test_a_blocking_call_inside_the_loop_is_refused(loop: VirtualLoop) -> None:
    async def work() -> None:
        loop.run_until_complete(asyncio.sleep(1.0))

    with pytest.raises(UsageError, match="_async form"):
        loop.run_until_complete(work())


def test_a_closed_loop_is_refused(loop: VirtualLoop) -> None:
    loop.close()
    waiting = asyncio.sleep(1.0)
    with pytest.raises(UsageError, match="closed"):
        loop.run_until_complete(waiting)


def test_what_is_under_way_is_cancelled_at_the_close(loop: VirtualLoop) -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            ended.append("cancelled")

    loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(1.0))
    loop.close()
    assert ended == ["cancelled"]


def test_an_error_that_nobody_awaits_goes_to_the_handler(loop: VirtualLoop) -> None:
    seen: list[object] = []

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        seen.append(context["exception"])

    loop.set_exception_handler(handle)
    loop.call_soon(int, "x")
    loop.run_until_complete(asyncio.sleep(1.0))
    assert isinstance(seen[0], ValueError)
