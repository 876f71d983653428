"""Room for what waits: bounded, given back, and never waited for longer than was said."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import final

import pytest
from tests.recovery.toy import PATIENCE_S, FakeClock

from loops_core.errors import ServerShutdownError
from loops_core.worker.admission import Room


@final
class WatchedClock:
    """A fake clock that tells when it was asked for the second time: then somebody waits."""

    def __init__(self) -> None:
        self.inner = FakeClock()
        self.asked_twice = threading.Event()
        self._num_asked = 0

    def now(self) -> float:
        return self.inner.now()

    def monotonic(self) -> float:
        self._num_asked += 1
        if self._num_asked > 1:
            self.asked_twice.set()
        return self.inner.monotonic()

    def sleep(self, seconds: float) -> None:
        self.inner.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        await self.inner.sleep_async(seconds)


@pytest.fixture
def clock() -> WatchedClock:
    return WatchedClock()


@pytest.fixture
def room(clock: WatchedClock) -> Room:
    return Room(max_entries=2, max_bytes=100, clock=clock)


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


def test_who_waits_gets_the_room_that_is_given_back(room: Room, clock: WatchedClock) -> None:
    room.reserve(100, wait_s=0)
    clock.asked_twice.clear()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(room.reserve, 50, wait_s=PATIENCE_S)
        assert clock.asked_twice.wait(PATIENCE_S)
        room.release(100)
        assert waiting.result(PATIENCE_S)


def test_who_waits_is_refused_when_the_time_is_over(room: Room, clock: WatchedClock) -> None:
    room.reserve(90, wait_s=0)
    room.reserve(10, wait_s=0)
    clock.asked_twice.clear()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(room.reserve, 50, wait_s=20)
        assert clock.asked_twice.wait(PATIENCE_S)
        clock.inner.advance(20)
        room.release(10)  # not enough, but it lets the other one look at the clock
        assert not waiting.result(PATIENCE_S)


def test_who_waits_is_woken_by_the_close(room: Room, clock: WatchedClock) -> None:
    room.reserve(100, wait_s=0)
    clock.asked_twice.clear()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(room.reserve, 50, wait_s=PATIENCE_S)
        assert clock.asked_twice.wait(PATIENCE_S)
        room.close("the disk is full")
        with pytest.raises(ServerShutdownError, match="the disk is full"):
            waiting.result(PATIENCE_S)


def test_a_closed_room_refuses_for_its_first_reason(room: Room) -> None:
    room.close("the disk is full")
    room.close("the run is closing")
    with pytest.raises(ServerShutdownError, match="the disk is full: nothing more is accepted"):
        room.reserve(1, wait_s=0)
