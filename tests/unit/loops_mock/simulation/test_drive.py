"""Driving: a coroutine is stepped where it is waited for, and is a task to whom it matters."""

from __future__ import annotations

import asyncio

import pytest

from loops_core.errors import UsageError
from loops_mock.simulation.world import World


def test_a_coroutine_that_is_driven_may_use_timeouts_and_groups() -> None:
    async def work() -> str:
        try:
            async with asyncio.timeout(5.0):
                await asyncio.Event().wait()
        except TimeoutError:
            pass
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.sleep(2.0, "done"))
        await asyncio.sleep(0)
        return await task

    with World(1) as world:
        assert world.clock.drive(work()) == "done"
        assert world.clock.monotonic() == 7.0


def test_an_error_of_a_group_reaches_who_drives() -> None:
    async def fail() -> None:
        raise ValueError("planned")

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await asyncio.sleep(1.0)

    with World(1) as world, pytest.raises(ExceptionGroup):
        world.clock.drive(work())


def test_a_coroutine_that_waits_for_ever_is_ended() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    with World(1) as world:
        with pytest.raises(UsageError, match="nothing is left to happen"):
            world.clock.drive(work())
        assert ended == ["ended"]
        world.clock.sleep(1.0)  # the world goes on


def test_time_is_skipped_only_where_nothing_happens_in_it() -> None:
    ran: list[float] = []

    async def tick() -> None:
        for _ in range(3):
            await asyncio.sleep(1.0)
            ran.append(world.clock.monotonic())

    async def work() -> None:
        ticking = asyncio.ensure_future(tick())
        await world.clock.sleep_async(2.5)
        ran.append(world.clock.monotonic())
        await ticking

    with World(1) as world:
        world.run(work())
    assert ran == [1.0, 2.0, 2.5, 3.0]
