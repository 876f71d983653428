"""Waiting on an event loop: for a future that threads settle, and for it or the time."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import TypeVar

from loops_core.clock import Clock

T = TypeVar("T")


async def settled(future: Future[T]) -> T:
    """Return what the future settles with; where it has settled, without a turn of the loop."""
    return future.result() if future.done() else await asyncio.wrap_future(future)


async def hold(news: asyncio.Future[T], hold_s: float, clock: Clock) -> bool:
    """Return whether there are news, after at most `hold_s` seconds; the news are not cancelled."""
    timer = asyncio.ensure_future(clock.sleep_async(hold_s))
    try:
        await asyncio.wait({news, timer}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
    return news.done()
