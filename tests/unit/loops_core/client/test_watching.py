"""The watcher settles futures that nobody waits for."""

from __future__ import annotations

import threading
import weakref

from tests.unit.loops_core.client.fakes import (
    FakeService,
    done,
    make_client,
    threaded_service,
    until,
)

from loops_core.client.training import TrainingClient
from loops_core.types.training import AdamParams, OptimStepResponse

STEPPED = done(OptimStepResponse(metrics={"step": 1.0}))


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "loops-watcher"]


def add_counted(client: TrainingClient, seen: list[str], count: int) -> list[str]:
    futures = [client.optim_step(AdamParams()) for _ in range(count)]
    for future in futures:
        future.add_done_callback(lambda f: seen.append(f.operation_id))
    return [future.operation_id for future in futures]


def test_callbacks_come_in_the_order_of_the_operations() -> None:
    service = threaded_service()
    client = make_client(service)
    seen: list[str] = []
    ids = add_counted(client, seen, 30)
    for operation_id in ids:
        service.settle(operation_id, STEPPED)
    until(lambda: len(seen) == 30)
    assert seen == ids
    client.close()


def test_one_thread_watches_all_and_ends_when_there_is_nothing_to_watch() -> None:
    before = len(watchers())
    service = threaded_service()
    client = make_client(service)
    seen: list[str] = []
    ids = add_counted(client, seen, 5)
    assert len(watchers()) == before + 1
    for operation_id in ids:
        service.settle(operation_id, STEPPED)
    until(lambda: len(watchers()) == before)
    assert len(seen) == 5
    more = add_counted(client, seen, 1)
    service.settle(more[0], STEPPED)
    until(lambda: len(seen) == 6)
    client.close()


def test_of_many_pending_operations_only_the_first_two_are_asked_about() -> None:
    service = FakeService()
    client = make_client(service)
    ids = add_counted(client, [], 100)
    until(lambda: service.num_polls > 50)
    client.close()
    asked = {call.path_args["operation_id"] for call in service.sent("retrieve")}
    assert asked <= set(ids[:2])


def test_a_close_ends_the_watching() -> None:
    service = FakeService()
    client = make_client(service)
    seen: list[str] = []
    add_counted(client, seen, 3)
    before = weakref.WeakSet(watchers())
    client.close()
    until(lambda: not [thread for thread in before if thread.is_alive()])
    assert seen == []


def test_a_future_that_is_cancelled_while_it_is_watched_calls_back() -> None:
    service = threaded_service()
    client = make_client(service)
    future = client.optim_step(AdamParams())
    called = threading.Event()
    future.add_done_callback(lambda _: called.set())
    future.cancel()
    assert called.wait(10)
    client.close()
