"""Waiting: on an event loop for what threads settle, and in a thread for the next piece of work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TypeVar, final

from loops_core.clock import Clock, follows_loop

T = TypeVar("T")


@final
class Doorbell:
    """Wakes one thread; rung by any number of others, and cheaper than a `threading.Event`."""

    def __init__(self) -> None:
        """Start with a bell that was not rung."""
        self._rings: SimpleQueue[None] = SimpleQueue()
        self._tell: Callable[[], object] | None = None

    @property
    def has_rung(self) -> bool:
        """Return whether it was rung since it was last answered."""
        return not self._rings.empty()

    def ring(self) -> None:
        """Wake the thread; a second time before it has answered does nothing."""
        if self._rings.empty():
            self._rings.put(None)
            if self._tell is not None:
                self._tell()

    def answer(self) -> None:
        """Forget that it was rung; whoever rings from now on is heard."""
        while not self._rings.empty():  # nobody else takes any
            self._rings.get_nowait()

    def wait(self, timeout_s: float | None = None) -> None:
        """Return once it has rung, and answer it; or after so many seconds."""
        try:
            self._rings.get(timeout=timeout_s)
        except Empty:
            return
        self.answer()

    def listen(self, tell: Callable[[], object]) -> None:
        """Call `tell` at each ring, on the thread that rings, where no thread waits."""
        self._tell = tell


async def settled(future: Future[T]) -> T:
    """Return what the future settles with; where it has settled, without a turn of the loop."""
    return future.result() if future.done() else await asyncio.wrap_future(future)


async def hold(news: asyncio.Future[T], hold_s: float, clock: Clock) -> bool:
    """Return whether there are news, after at most `hold_s` seconds; the news are not cancelled."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def end(_: object = None) -> None:
        if not over.done():
            over.set_result(None)

    timer: asyncio.TimerHandle | asyncio.Task[None]
    if follows_loop(type(clock)):
        timer = loop.call_later(hold_s, end)
    else:
        timer = loop.create_task(_nap(clock, hold_s))
        timer.add_done_callback(end)
    news.add_done_callback(end)
    try:
        await over
    finally:
        timer.cancel()
        news.remove_done_callback(end)
    return news.done()


async def hear(news: asyncio.Future[T], hold_s: float, clock: Clock) -> bool:
    """Do what `hold` does for news that are nobody else's: they are cancelled where it ends."""
    if not follows_loop(type(clock)):
        return await hold(news, hold_s, clock)
    is_over = False

    def end() -> None:
        nonlocal is_over
        is_over = not news.done()
        news.cancel()

    timer = asyncio.get_running_loop().call_later(hold_s, end)
    try:
        await news
    except asyncio.CancelledError:
        if not is_over:
            raise
    finally:
        timer.cancel()
    return not is_over


async def _nap(clock: Clock, seconds: float) -> None:
    await clock.sleep_async(seconds)
