"""Room for what waits: bounded, given back, and never waited for longer than was said."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.recovery.toy import PATIENCE_S

from loops_core.clock import SystemClock
from loops_core.errors import ServerShutdownError
from loops_core.worker.admission import Room


@pytest.fixture
def room() -> Room:
    return Room(max_entries=2, max_bytes=100, clock=SystemClock())


def wait_for_line(room: Room, num_waiting: int) -> None:
    """Return once so many wait for room."""
    while len(room._line) != num_waiting:  # pyright: ignore[reportPrivateUsage]
        threading.Event().wait(0)


def test_entries_are_bounded(room: Room) -> None:
    assert [room.reserve(1, wait_s=0) for _ in range(3)] == [True, True, False]


def test_bytes_are_bounded(room: Room) -> None:
    assert [room.reserve(size, wait_s=0) for size in (60, 41, 40)] == [True, False, True]


def test_load_counts_what_waits(room: Room) -> None:
    room.reserve(60, wait_s=0)
    room.reserve(10, wait_s=0)
    room.release(60)
    assert room.load() == (1, 10)


def test_entries_from_before_count_also_over_the_bound(room: Room) -> None:
    room.fill(3, 300)
    room.release(100)
    assert room.load() == (2, 200)
    assert not room.reserve(1, wait_s=0)


def test_who_waits_gets_the_room_that_is_given_back(room: Room) -> None:
    room.reserve(100, wait_s=0)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(room.reserve, 50, wait_s=PATIENCE_S)
        wait_for_line(room, 1)
        room.release(100)
        assert waiting.result(PATIENCE_S)
    assert room.load() == (1, 50)


def test_who_waits_is_refused_when_the_time_is_over(room: Room) -> None:
    room.reserve(100, wait_s=0)
    assert not room.reserve(50, wait_s=0.001)
    assert not asyncio.run(room.reserve_async(50, wait_s=0.001))
    room.release(100)
    assert room.load() == (0, 0)


def test_who_waits_is_woken_by_the_close(room: Room) -> None:
    room.reserve(100, wait_s=0)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(room.reserve, 50, wait_s=PATIENCE_S)
        wait_for_line(room, 1)
        room.close("the disk is full")
        with pytest.raises(ServerShutdownError, match="the disk is full"):
            waiting.result(PATIENCE_S)


def test_room_goes_to_the_first_in_the_line_thread_or_event_loop(room: Room) -> None:
    room.reserve(100, wait_s=0)
    with ThreadPoolExecutor() as pool:
        large = pool.submit(room.reserve, 90, wait_s=PATIENCE_S)
        wait_for_line(room, 1)

        async def wait_behind() -> None:
            small = asyncio.create_task(room.reserve_async(10, wait_s=PATIENCE_S))
            await asyncio.sleep(0)
            assert not room.reserve(1, wait_s=0)  # nobody passes those who wait
            room.release(50)
            await asyncio.sleep(0)
            assert not large.done()
            assert not small.done()
            room.release(50)
            assert await small

        room.fill(1, 0)  # the 100 bytes are given back in two halves
        asyncio.run(wait_behind())
        assert large.result(PATIENCE_S)
    assert room.load() == (2, 100)


def test_who_gives_up_is_not_in_the_way(room: Room) -> None:
    room.reserve(60, wait_s=0)

    async def give_up() -> None:
        large = asyncio.create_task(room.reserve_async(90, wait_s=PATIENCE_S))
        await asyncio.sleep(0)
        small = asyncio.create_task(room.reserve_async(40, wait_s=PATIENCE_S))
        await asyncio.sleep(0)
        large.cancel()
        assert await small

    asyncio.run(give_up())
    assert room.load() == (2, 100)


def test_room_that_reaches_a_cancelled_waiter_goes_back(room: Room) -> None:
    room.reserve(100, wait_s=0)

    async def cancel_too_late() -> None:
        waiting = asyncio.create_task(room.reserve_async(50, wait_s=PATIENCE_S))
        await asyncio.sleep(0)
        room.release(100)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(cancel_too_late())
    assert room.load() == (0, 0)


def test_an_event_loop_that_waits_is_refused_by_the_close(room: Room) -> None:
    room.reserve(100, wait_s=0)

    async def close_while_waiting() -> None:
        waiting = asyncio.create_task(room.reserve_async(50, wait_s=PATIENCE_S))
        await asyncio.sleep(0)
        room.close("the run is closing")
        with pytest.raises(ServerShutdownError, match="the run is closing"):
            await waiting

    asyncio.run(close_while_waiting())


def test_a_closed_room_refuses_for_its_first_reason(room: Room) -> None:
    room.close("the disk is full")
    room.close("the run is closing")
    with pytest.raises(ServerShutdownError, match="the disk is full: nothing more is accepted"):
        room.reserve(1, wait_s=0)
