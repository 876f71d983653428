"""The pools of each event loop that uses a transport, closed when their loop ends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import final

from loops_transport_http.client.pools import AsyncPools


@dataclass(frozen=True, slots=True)
class _Held:
    client: AsyncPools
    keeper: AsyncGenerator[None]


@final
class LoopClients:
    """Async clients by event loop: connections belong to the loop that opened them."""

    def __init__(self, make: Callable[[], AsyncPools]) -> None:
        """Make clients when they are asked for."""
        self._make = make
        self._lock = threading.Lock()
        self._held: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Held] = (
            weakref.WeakKeyDictionary()
        )

    async def client(self) -> AsyncPools:
        """Return the running loop's client."""
        loop = asyncio.get_running_loop()
        with self._lock:
            held = self._held.get(loop)
        if held is None:
            client = self._make()
            held = _Held(client, _keep(client))
            with self._lock:
                self._held[loop] = held
            await anext(held.keeper)
        return held.client

    def close(self) -> None:
        """Have every client closed by its own loop, where that still runs; waits for none."""
        for loop, held in self._take():
            if loop.is_running():
                with contextlib.suppress(RuntimeError):  # it was closed meanwhile
                    asyncio.run_coroutine_threadsafe(held.keeper.aclose(), loop)

    async def aclose(self) -> None:
        """Close the running loop's client, and have the others closed."""
        loop = asyncio.get_running_loop()
        with self._lock:
            held = self._held.pop(loop, None)
        self.close()
        if held is not None:
            await held.keeper.aclose()

    def _take(self) -> list[tuple[asyncio.AbstractEventLoop, _Held]]:
        with self._lock:
            taken = list(self._held.items())
            self._held.clear()
            return taken


async def _keep(client: AsyncPools) -> AsyncGenerator[None]:
    """Close the client when this generator is closed.

    A loop that ends closes the generators that were begun on it (`loop.shutdown_asyncgens`, which
    `asyncio.run` calls): that is how a client learns that its loop ends.
    """
    try:
        yield
    finally:
        await client.aclose()
