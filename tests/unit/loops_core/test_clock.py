"""Which clock a client has that is given none."""

from __future__ import annotations

import asyncio
import threading

import pytest

from loops_core.clock import SystemClock, current_clock, told_by
from loops_mock.simulation.world import World


def test_it_is_the_machines() -> None:
    assert isinstance(current_clock(), SystemClock)


def test_within_a_block_it_is_the_one_of_the_block_and_afterwards_the_machines() -> None:
    with World(1) as world:
        with told_by(world.clock), pytest.raises(KeyError), told_by(SystemClock()):
            raise KeyError
        with told_by(world.clock):
            assert current_clock() is world.clock
    assert isinstance(current_clock(), SystemClock)


def test_tasks_inherit_it_and_threads_do_not() -> None:
    seen: list[object] = []

    async def look() -> None:
        seen.append(current_clock())

    with World(1) as world, told_by(world.clock):
        asyncio.run(look())
        thread = threading.Thread(target=lambda: seen.append(current_clock()))
        thread.start()
        thread.join()
        assert seen[0] is world.clock
    assert isinstance(seen[1], SystemClock)
