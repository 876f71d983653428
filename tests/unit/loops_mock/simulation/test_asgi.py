"""The faults of a plan happen to the requests of an ASGI app."""

from __future__ import annotations

import asyncio
from typing import Any, final

from loops_mock.simulation.asgi import FaultyApp, Message, Receive, Scope, Send
from loops_mock.simulation.faults import (
    Delay,
    DropRequest,
    Duplicate,
    Fault,
    FaultPlan,
    LoseAnswer,
    Reorder,
    Restart,
    Status,
    Truncate,
)


@final
class SkippingClock:
    """A clock on which waiting takes one turn of the loop."""

    def __init__(self) -> None:
        self.naps: list[float] = []

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError("an app does not block its loop")

    async def sleep_async(self, seconds: float) -> None:
        self.naps.append(seconds)
        await asyncio.sleep(0)


@final
class Echo:
    """An app that answers with what it reads."""

    def __init__(self) -> None:
        self.read: list[bytes] = []
        self.has_read_two = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "lifespan.startup.complete"})
            return
        body: bytes = (await receive())["body"]
        self.read.append(body)
        if len(self.read) == 2:
            self.has_read_two.set()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def ask(app: FaultyApp, body: bytes = b"12345678", *, path: str = "/optim_step") -> list[Any]:
    """Return the messages that a request was answered with."""
    answer: list[Message] = []
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return pending.pop() if pending else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        answer.append(message)

    await app({"type": "http", "method": "POST", "path": path}, receive, send)
    return answer


def faulty(*faults: Fault) -> tuple[FaultyApp, Echo, SkippingClock]:
    echo, clock = Echo(), SkippingClock()
    return FaultyApp(echo, FaultPlan(faults), clock=clock), echo, clock


async def test_a_call_without_fault_passes_as_it_is() -> None:
    app, echo, _ = faulty(DropRequest("optim_step", at=2))
    start, body = await ask(app)
    assert (start["status"], body["body"], echo.read) == (200, b"12345678", [b"12345678"])
    assert not app.run.met


async def test_other_paths_and_the_life_of_the_server_pass_uncounted() -> None:
    app, _, _ = faulty(DropRequest())
    _, body = await ask(app, path="/docs")
    assert body["body"] == b"12345678"
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    await app({"type": "lifespan"}, receive, send)
    assert sent
    assert not app.run.met


async def test_a_dropped_request_reaches_nobody_and_ends_without_a_body() -> None:
    app, echo, clock = faulty(DropRequest("optim_step", seconds=3.0))
    answer = await ask(app)
    assert [message["type"] for message in answer] == ["http.response.start"]
    assert (b"content-length", b"1") in answer[0]["headers"]
    assert (echo.read, clock.naps) == ([], [3.0])


async def test_of_a_lost_answer_the_request_was_served() -> None:
    app, echo, _ = faulty(LoseAnswer("optim_step"))
    answer = await ask(app)
    assert [message["type"] for message in answer] == ["http.response.start"]
    assert echo.read == [b"12345678"]


async def test_a_truncated_answer_has_the_length_of_the_whole() -> None:
    app, _, _ = faulty(Truncate("optim_step", share=0.25))
    start, body = await ask(app)
    assert (b"content-length", b"8") in start["headers"]
    assert (body["body"], body["more_body"]) == (b"12", True)


async def test_a_status_answers_in_place_of_the_app() -> None:
    app, echo, _ = faulty(Status("optim_step", code=429, retry_after_s=1.5))
    start, _ = await ask(app)
    assert start["status"] == 429
    assert (b"retry-after", b"2") in start["headers"]  # whole seconds, never fewer than planned
    assert echo.read == []


async def test_a_status_may_hide_the_answer_of_an_app_that_was_reached() -> None:
    app, echo, _ = faulty(Status("optim_step", code=502, reached=True))
    start, _ = await ask(app)
    assert start["status"] == 502
    assert b"retry-after" not in dict(start["headers"])
    assert echo.read == [b"12345678"]


async def test_a_duplicate_arrives_twice_and_is_answered_once() -> None:
    app, echo, clock = faulty(Duplicate("optim_step", seconds=0.5))
    _, body = await ask(app)
    await echo.has_read_two.wait()
    assert body["body"] == b"12345678"
    assert (echo.read, clock.naps) == ([b"12345678"] * 2, [0.5])


async def test_a_late_request_arrives_after_its_delay() -> None:
    app, echo, clock = faulty(Delay("optim_step", seconds=2.5))
    await ask(app)
    assert (echo.read, clock.naps) == ([b"12345678"], [2.5])


async def test_a_reordered_request_arrives_behind_the_next_one() -> None:
    app, echo, _ = faulty(Reorder("optim_step"))
    app._clock = _Standing()  # type: ignore[assignment]  # its time does not pass
    first = asyncio.ensure_future(ask(app, b"first"))
    await asyncio.sleep(0)
    await ask(app, b"second")
    await first
    assert echo.read == [b"second", b"first"]


async def test_a_reordered_request_that_nobody_overtakes_arrives_late() -> None:
    app, echo, clock = faulty(Reorder("optim_step", seconds=4.0))
    await ask(app)
    assert (echo.read, clock.naps) == ([b"12345678"], [4.0])


async def test_what_happens_to_worlds_is_counted_and_left_out() -> None:
    app, echo, _ = faulty(Restart("optim_step"))
    await ask(app)
    assert (len(echo.read), len(app.run.met)) == (1, 1)


class _Standing:
    async def sleep_async(self, seconds: float) -> None:
        await asyncio.get_running_loop().create_future()
