"""The doorbell: whoever answers it before a look misses nothing."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Final

import pytest

from loops_core.clock import SystemClock
from loops_core.worker.waits import Doorbell, hear

NUM_RINGERS: Final = 4
NUM_THINGS: Final = 2_000


def test_rings_before_an_answer_are_one() -> None:
    bell = Doorbell()
    bell.ring()
    bell.ring()
    bell.wait()
    assert not bell.has_rung


def test_an_answer_forgets_what_was_rung() -> None:
    bell = Doorbell()
    bell.ring()
    assert bell.has_rung
    bell.answer()
    assert not bell.has_rung


def test_nothing_that_was_put_before_a_ring_is_missed() -> None:
    bell = Doorbell()
    things: deque[int] = deque()

    def put() -> None:
        for number in range(NUM_THINGS):
            things.append(number)
            bell.ring()

    ringers = [threading.Thread(target=put) for _ in range(NUM_RINGERS)]
    for ringer in ringers:
        ringer.start()
    taken = 0
    while taken < NUM_RINGERS * NUM_THINGS:  # a ring that is lost lets this wait for ever
        bell.wait()
        while things:
            things.popleft()
            taken += 1
    for ringer in ringers:
        ringer.join()


async def test_news_are_heard_of_and_their_absence_too() -> None:
    loop, clock = asyncio.get_running_loop(), SystemClock()
    news: asyncio.Future[int] = loop.create_future()
    loop.call_soon(news.set_result, 1)
    assert await hear(news, 30.0, clock)
    assert not await hear(loop.create_future(), 0.001, clock)


async def test_a_hearer_that_is_cancelled_says_so() -> None:
    news: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(hear(news, 30.0, SystemClock()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
