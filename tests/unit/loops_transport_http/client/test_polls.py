"""What shared polls promise to those who wait: outcomes at once, by few requests."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from starlette.responses import Response
from tests.unit.loops_transport_http.client.stub import Seen, json, serving

from loops_core.errors import UnreachableError, UsageError
from loops_core.types.operation import OperationStatus, PollBody, PollReply
from loops_core.types.routes import POLL, RETRIEVE, Call
from loops_transport_http.client.poll_board import MOST_HELD
from loops_transport_http.client.poll_slots import MOST_POLLS
from loops_transport_http.client.polls import LoopPolls, ThreadPolls
from loops_transport_http.client.requests import Address
from loops_transport_http.client.transport import HttpTransport

DONE = OperationStatus(status="done")
PENDING = OperationStatus(status="pending")
ORIGIN = "http://service"


def retrieve(operation_id: str, *, hold_s: float = 30.0) -> Call[OperationStatus]:
    return Call(
        route=RETRIEVE,
        base_url="http://service/trainers/r",
        path_args={"operation_id": operation_id},
        run_id="r",
        hold_s=hold_s,
        timeout_s=hold_s + 5.0,
    )


def asked_for(call: Call[Any]) -> list[str]:
    if call.route.name == POLL.name:
        assert isinstance(call.body, PollBody)
        return call.body.operation_ids
    return [call.path_args["operation_id"]]


class Service:
    """Answers polls once an operation has ended, as the protocol says; counts them."""

    def __init__(self) -> None:
        self.calls: list[Call[Any]] = []
        self.ended: set[str] = set()
        self._news = threading.Condition()

    def end(self, *operation_ids: str) -> None:
        with self._news:
            self.ended.update(operation_ids)
            self._news.notify_all()

    def answer(self, call: Call[Any]) -> Any:
        ids = asked_for(call)
        with self._news:
            self.calls.append(call)
            self._news.notify_all()
            self._news.wait_for(lambda: self.ended.intersection(ids), timeout=call.hold_s)
            ended = {i: DONE for i in ids if i in self.ended}
        if call.route.name == POLL.name:
            return PollReply(operations=ended)
        return ended.get(ids[0], PENDING)

    async def answer_async(self, call: Call[Any]) -> Any:
        return await asyncio.to_thread(self.answer, call)

    def wait_until_asked_for(self, *operation_ids: str) -> None:
        def is_asked_for() -> bool:
            asked = {i for call in self.calls for i in asked_for(call)}
            return asked.issuperset(operation_ids)

        with self._news:
            assert self._news.wait_for(is_asked_for, timeout=10)


def test_one_operation_is_asked_for_by_a_poll_of_its_own() -> None:
    service = Service()
    service.end("a")

    assert ThreadPolls(service.answer).wait(retrieve("a"), origin=ORIGIN, shared=True) is DONE
    assert [call.route.name for call in service.calls] == [RETRIEVE.name]
    assert service.calls[0].timeout_s == pytest.approx(35.0, abs=0.1)  # its hold and the margin


def test_threads_that_wait_share_their_polls() -> None:
    service, ids = Service(), [f"op-{number}" for number in range(40)]
    polls = ThreadPolls(service.answer)
    with ThreadPoolExecutor(len(ids)) as threads:
        waits = [threads.submit(polls.wait, retrieve(i), origin=ORIGIN, shared=True) for i in ids]
        service.wait_until_asked_for(*ids)
        service.end(*ids)
        assert [wait.result(timeout=10) for wait in waits] == [DONE] * len(ids)
    # Newcomers of one moment share a poll; how many moments there are depends on the machine.
    assert len(service.calls) < len(ids) / 2


async def test_tasks_that_wait_share_their_polls() -> None:
    service, ids = Service(), [f"op-{number}" for number in range(300)]
    polls = LoopPolls(service.answer_async)
    waits = [asyncio.create_task(polls.wait(retrieve(i), origin=ORIGIN, shared=True)) for i in ids]
    await asyncio.to_thread(service.wait_until_asked_for, *ids)
    for number, operation_id in enumerate(ids):
        if number % 50 == 0:
            service.end(*ids[number : number + 50])
        assert await waits[number] is DONE, operation_id
    assert len(service.calls) < len(ids) / 3


def test_who_waits_for_something_that_has_ended_is_not_held_up_by_a_held_poll() -> None:
    service = Service()
    polls = ThreadPolls(service.answer)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(polls.wait, retrieve("slow"), origin=ORIGIN, shared=True)
        service.wait_until_asked_for("slow")
        service.end("ended")
        assert polls.wait(retrieve("ended"), origin=ORIGIN, shared=True) is DONE
        assert not slow.done()
        service.end("slow")
        assert slow.result(timeout=10) is DONE


def test_where_there_is_no_shared_poll_each_is_asked_for_alone() -> None:
    service, ids = Service(), ["a", "b", "c"]
    polls = ThreadPolls(service.answer)
    with ThreadPoolExecutor(len(ids)) as threads:
        waits = [threads.submit(polls.wait, retrieve(i), origin=ORIGIN, shared=False) for i in ids]
        service.wait_until_asked_for(*ids)
        service.end(*ids)
        assert [wait.result(timeout=10) for wait in waits] == [DONE] * len(ids)
    assert {call.route.name for call in service.calls} == {RETRIEVE.name}


def test_the_end_of_the_hold_says_pending() -> None:
    service = Service()

    assert (
        ThreadPolls(service.answer).wait(retrieve("a", hold_s=0.02), origin=ORIGIN, shared=True)
        == PENDING
    )


async def test_when_the_task_that_asks_is_cancelled_another_goes_on() -> None:
    service = Service()
    polls = LoopPolls(service.answer_async)
    asking = asyncio.create_task(polls.wait(retrieve("a", hold_s=1.0), origin=ORIGIN, shared=True))
    others = [
        asyncio.create_task(polls.wait(retrieve(i), origin=ORIGIN, shared=True)) for i in ("b", "c")
    ]
    await asyncio.to_thread(service.wait_until_asked_for, "a", "b", "c")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    service.end("a", "b", "c")

    assert [await other for other in others] == [DONE, DONE]


def test_a_failed_poll_fails_for_everybody_it_asked_for() -> None:
    service = Service()
    polls = ThreadPolls(_Broken(service).answer)
    with ThreadPoolExecutor(3) as threads:
        waits = [threads.submit(polls.wait, retrieve(i), origin=ORIGIN, shared=True) for i in "abc"]
        service.wait_until_asked_for("a", "b", "c")
        service.end("a", "b", "c")
        for wait in waits:
            with pytest.raises(UnreachableError, match="it broke"):
                wait.result(timeout=10)


class _Broken:
    """A service whose answers get lost."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def answer(self, call: Call[Any]) -> Any:
        self._service.answer(call)
        raise UnreachableError("it broke")


def test_who_waits_behind_four_held_polls_has_what_has_ended_at_once() -> None:
    service, slow = Service(), [f"slow-{number}" for number in range(MOST_HELD)]
    polls = ThreadPolls(service.answer)
    with ThreadPoolExecutor(len(slow)) as threads:
        waits: list[Future[OperationStatus]] = []
        for operation_id in slow:  # one after the other, so that each has a poll of its own
            waits.append(
                threads.submit(polls.wait, retrieve(operation_id), origin=ORIGIN, shared=True)
            )
            service.wait_until_asked_for(operation_id)
        service.end("ended")
        assert polls.wait(retrieve("ended"), origin=ORIGIN, shared=True) is DONE
        assert not any(wait.done() for wait in waits)
        service.end(*slow)
        assert [wait.result(timeout=10) for wait in waits] == [DONE] * len(slow)


async def test_without_a_turn_the_answer_is_pending_and_no_request_is_made() -> None:
    most, under_way = 0, 0

    async def carry(call: Call[Any]) -> Any:
        nonlocal most, under_way
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(call.hold_s)
        under_way -= 1
        return PENDING

    polls = LoopPolls(carry)
    calls = [retrieve(f"op-{number}", hold_s=0.1) for number in range(300)]
    waits = [polls.wait(call, origin=ORIGIN, shared=False) for call in calls]

    assert await asyncio.gather(*waits) == [PENDING] * len(calls)
    assert most == MOST_POLLS


def test_closing_wakes_the_threads_that_wait() -> None:
    service = Service()
    polls = ThreadPolls(service.answer)
    with ThreadPoolExecutor(5) as threads:
        waits = [
            threads.submit(polls.wait, retrieve(i), origin=ORIGIN, shared=True) for i in "abcde"
        ]
        service.wait_until_asked_for("a", "b", "c", "d", "e")
        polls.close(UsageError("the client is closed"))
        num_asking = len(service.calls)  # a request under way ends with its connection
        for closed in islice(as_completed(waits, timeout=10), len(waits) - num_asking):
            assert isinstance(closed.exception(), UsageError)
        service.end("a", "b", "c", "d", "e")
    with pytest.raises(UsageError, match="closed"):
        polls.wait(retrieve("f"), origin=ORIGIN, shared=True)


def test_closing_the_transport_ends_a_held_request_at_once() -> None:
    arrived, answering = threading.Event(), threading.Event()

    def hold(_: Seen) -> Response:
        arrived.set()
        assert answering.wait(30)
        return json("", 408)

    with serving(hold) as stub, ThreadPoolExecutor(1) as threads:
        transport = HttpTransport(Address(base_url=stub.url))
        call = replace(retrieve("a"), base_url="/trainers/r")
        waiting = threads.submit(transport.send, call)
        assert arrived.wait(10)
        transport.close()
        try:
            assert isinstance(waiting.exception(timeout=10), UsageError)
        finally:
            answering.set()
