"""A TCP proxy between a client and a server that does to requests what a plan says."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Coroutine, Iterable
from typing import Any, Self, TypeVar, final
from urllib.parse import urlsplit

from tests.faults.messages import Head, message, read_head
from tests.faults.pipes import BrokenError, Gate, Pipe, pass_on
from tests.faults.plan import Fault, Plan, Seen

T = TypeVar("T")


@final
class Proxy:
    """Passes HTTP/1.1 on to a server, from a thread of its own; use it as a context manager.

    Attributes:
        url: where it answers.
        seen: the requests so far, in the order in which they came.
    """

    def __init__(self, url: str) -> None:
        """Open nothing yet.

        Args:
            url: the server's address.
        """
        there = urlsplit(url)
        self._far = there.hostname or "", there.port or 0
        self._plan = Plan()
        self._loop = asyncio.new_event_loop()
        self._gate = Gate()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy")
        self.seen: list[Seen] = []
        self.url = ""

    def __enter__(self) -> Self:
        """Start passing on."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        """End every connection."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def num_open(self) -> int:
        """Return how many connections clients have at this moment."""
        return len(self._tasks)

    def inject(self, pattern: str, faults: Iterable[Fault]) -> None:
        """Do this to the next requests whose method and path match, one fault each."""
        self._plan.add(pattern, faults)

    def clear(self) -> None:
        """Let everything pass from now on, and forget what was seen."""
        self._plan.clear()
        self.seen.clear()

    def matching(self, pattern: str) -> list[Seen]:
        """Return the requests so far whose method and path match."""
        return [seen for seen in self.seen if re.search(pattern, seen.line)]

    def size_of(self, pattern: str, *, of_response: bool) -> int:
        """Return the size of the newest matching request, or of its response."""
        newest = self.matching(pattern)[-1]
        return newest.response_bytes if of_response else newest.request_bytes

    def wait_until_held(self) -> None:
        """Return when something is held back."""
        assert self._gate.reached.wait(60)

    def release(self) -> None:
        """Let everything go on that is held back; nothing will be held again."""
        self._loop.call_soon_threadsafe(self._gate.open)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _stop(self) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(Pipe(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, near: Pipe) -> None:
        """Serve one connection of a client; the server sees one, too."""
        far: Pipe | None = None
        resets = True
        try:
            head = await read_head(near.reader)
            while head is not None:
                far = far or await Pipe.open(self._far)
                head = await self._exchange(head, near, far)
            resets = False
        except BrokenError as broken:
            resets = broken.resets
        except (ConnectionError, EOFError):
            pass  # one side has gone: the other sees a reset
        finally:
            pipes = [near] if far is None else [near, far]
            for pipe in pipes:
                pipe.end(resets=resets)
            for pipe in pipes:
                await pipe.ended()

    async def _exchange(self, head: Head, near: Pipe, far: Pipe) -> Head | None:
        """Pass one request and its response on; return the next request's head."""
        line = head.line.rpartition(" ")[0]
        key = head.headers.get("idempotency-key")
        seen = Seen(line=line, key=key, fault=self._plan.take(line))
        self.seen.append(seen)
        far.meter, near.meter = seen.add_request, seen.add_response
        following: asyncio.Task[Head | None] | None = None
        try:
            if seen.fault.before is not None:
                await asyncio.to_thread(seen.fault.before)
            await self._ask(head, near, far, seen.fault)
            following = asyncio.ensure_future(read_head(near.reader))
            await self._answer(near, far, seen, following)
        except BaseException:
            if following is not None:
                following.cancel()
            raise
        return await following

    async def _ask(self, head: Head, near: Pipe, far: Pipe, fault: Fault) -> None:
        request = message(near.reader, head)
        if fault.times == 1 and fault.answer is None:
            await pass_on(request, far, fault.request, self._gate)
            return
        whole = b"".join([piece async for piece in request])
        if fault.answer is None:
            await far.write(whole)
            await asyncio.gather(*(self._ask_too(whole) for _ in range(fault.times - 1)))

    async def _ask_too(self, request: bytes) -> None:
        """Send a copy of a request over a connection of its own, and read the response away."""
        pipe = await Pipe.open(self._far)
        try:
            await pipe.write(request)
            reply = await read_head(pipe.reader)
            if reply is not None:
                async for _ in message(pipe.reader, reply):
                    pass
        finally:
            pipe.end(resets=False)
            await pipe.ended()

    async def _answer(
        self, near: Pipe, far: Pipe, seen: Seen, following: asyncio.Task[Head | None]
    ) -> None:
        if seen.fault.answer is not None:
            await near.write(seen.fault.answer)
            return
        reply = await _unless_gone(read_head(far.reader), following)
        if reply is None:
            raise EOFError
        seen.status = reply.status
        answer = message(far.reader, reply)
        passing = pass_on(answer, near, seen.fault.response, self._gate)
        await _unless_gone(passing, following)


async def _unless_gone(work: Coroutine[Any, Any, T], following: asyncio.Task[Head | None]) -> T:
    """Return what the work returns.

    Raises:
        EOFError: the client went away meanwhile.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task, following}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and following.result() is None:
            raise EOFError
        return await task
    finally:
        task.cancel()
