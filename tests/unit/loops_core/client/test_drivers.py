"""Flows under both drivers."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import threading

import pytest
from tests.unit.loops_core.client.fakes import FakeService, JumpingClock, make_driver

from loops_core.client import calls
from loops_core.client.drivers import Driver, Flow, Signal, Sleep, Wait, compute, send, twin_of
from loops_core.errors import BusyError, LoopsError, UnreachableError, UsageError
from loops_core.types.deployment import Empty, PolicyVersion

VERSION = calls.policy_version(base_url="fake:", run_id="r1")


@pytest.fixture
def service() -> FakeService:
    service = FakeService()
    service.answers["policy_version"] = lambda _: PolicyVersion(policy_version=3)
    return service


def ask_after_a_nap() -> Flow[int | None]:
    yield Sleep(2.0)
    reply = yield from send(VERSION)
    return reply.policy_version


async def test_a_flow_has_the_same_value_under_both_drivers(service: FakeService) -> None:
    driver = make_driver(service)
    assert driver.run(ask_after_a_nap()) == await driver.run_async(ask_after_a_nap()) == 3
    assert isinstance(service.clock, JumpingClock)
    assert service.clock.naps == [2.0, 2.0]


async def test_an_error_of_the_tree_is_thrown_into_the_flow(service: FakeService) -> None:
    def recover() -> Flow[str]:
        try:
            yield from send(VERSION)
        except LoopsError as error:
            return error.message
        return "no error"

    driver = make_driver(service)
    service.failures["policy_version"] = [UsageError("first"), UsageError("second")]
    assert driver.run(recover()) == "first"
    assert await driver.run_async(recover()) == "second"


async def test_an_interrupted_flow_runs_its_finally_blocks(service: FakeService) -> None:
    ended: list[str] = []

    def guarded(name: str) -> Flow[None]:
        try:
            yield from send(VERSION)
        finally:
            ended.append(name)

    driver = make_driver(service)
    service.failures["policy_version"] = [KeyboardInterrupt(), asyncio.CancelledError()]
    with pytest.raises(KeyboardInterrupt) as interrupted:
        driver.run(guarded("sync"))
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await driver.run_async(guarded("async"))
    assert ended == ["sync", "async"]  # although the tracebacks keep the flows alive
    del interrupted, cancelled


async def test_a_long_computation_leaves_the_event_loop_free() -> None:
    driver = make_driver(FakeService())
    here = threading.current_thread()
    assert driver.run(compute(threading.current_thread)) is here
    assert await driver.run_async(compute(threading.current_thread)) is not here


def test_a_call_is_repeated_until_it_arrives_and_has_what_is_left_of_its_time(
    service: FakeService,
) -> None:
    failures: list[BaseException] = [UnreachableError("broke"), BusyError("full")]
    service.failures["policy_version"] = failures
    reply = make_driver(service).run(make_driver(service).persist(VERSION, budget_s=60))
    assert reply.policy_version == 3
    assert [dataclasses.replace(call, timeout_s=None) for call in service.calls] == [VERSION] * 3
    limits = [call.timeout_s or 0 for call in service.calls]
    assert limits[0] == 60
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] == pytest.approx(60 - sum(service.clock.naps), abs=1)  # type: ignore[attr-defined]  # a JumpingClock


def test_a_busy_service_is_left_alone_for_as_long_as_it_asked(service: FakeService) -> None:
    service.failures["policy_version"] = [BusyError("full", retry_after_s=7)]
    driver = make_driver(service)
    driver.run(driver.persist(VERSION, budget_s=60))
    assert isinstance(service.clock, JumpingClock)
    assert 7 <= service.clock.naps[0] < 8


def test_repeating_ends_with_the_budget_and_the_last_error(service: FakeService) -> None:
    service.failures["policy_version"] = [UnreachableError(f"broke {n}") for n in range(99)]
    driver = make_driver(service)
    start = service.clock.monotonic()
    with pytest.raises(UnreachableError, match=r"was tried \d+ times within 60 s: broke"):
        driver.run(driver.persist(VERSION, budget_s=60))
    assert service.clock.monotonic() - start <= 60


def test_a_refusal_is_not_repeated(service: FakeService) -> None:
    service.failures["policy_version"] = [UsageError("wrong")]
    driver = make_driver(service)
    with pytest.raises(UsageError):
        driver.run(driver.persist(VERSION, budget_s=60))
    assert len(service.calls) == 1


def test_drivers_with_different_chance_repeat_at_different_times() -> None:
    naps: list[list[float]] = []
    for seed in range(2):
        service = FakeService()
        service.answers["policy_version"] = lambda _: Empty()
        service.failures["policy_version"] = [UnreachableError("broke")]
        driver = Driver(service, service.clock, random.Random(seed))
        driver.run(driver.persist(VERSION, budget_s=60))
        assert isinstance(service.clock, JumpingClock)
        naps.append(service.clock.naps)
    assert naps[0] != naps[1]


async def test_a_signal_reaches_threads_and_event_loops() -> None:
    driver, signal = make_driver(FakeService()), Signal()

    def wait() -> Flow[str]:
        yield Wait(signal, 60)
        return "happened"

    threads = asyncio.gather(*(asyncio.to_thread(driver.run, wait()) for _ in range(3)))
    task = asyncio.create_task(driver.run_async(wait()))
    await asyncio.sleep(0)
    signal.set()
    signal.set()
    assert [await task, *await threads] == ["happened"] * 4


def test_a_signal_that_happens_after_a_waiter_s_loop_has_ended_harms_nobody() -> None:
    signal = Signal()
    asyncio.run(signal.wait_async(0))
    signal.set()
    asyncio.run(signal.wait_async(60))


async def test_a_blocking_wait_for_the_thread_s_own_loop_is_refused() -> None:
    def wait() -> Flow[None]:
        yield Wait(Signal(asyncio.get_running_loop()), 60)

    with pytest.raises(UsageError, match=r"\*_async"):
        make_driver(FakeService()).run(wait())


def test_a_twin_has_the_docstring_of_its_method() -> None:
    def method() -> None:
        """Promise something."""

    @twin_of(method)
    async def method_async() -> None: ...

    assert method_async.__doc__ == "Promise something."
