"""Chance: secret by default, and drawn again where a source was given."""

from __future__ import annotations

import asyncio
import random

from loops_core import chance


def drawn() -> tuple[str, int, str, float]:
    return (
        chance.draw_hex(16),
        chance.draw_bits(31),
        chance.draw_text(7),
        chance.make_random().random(),
    )


def test_draws_differ_and_have_their_shape() -> None:
    first, second = drawn(), drawn()
    assert first != second
    assert (len(first[0]), len(first[2])) == (32, 7)
    assert 0 <= first[1] < 2**31


def test_equal_sources_draw_equal_values_and_the_block_ends_that() -> None:
    with chance.drawn_from(random.Random(3)):
        first = drawn()
    with chance.drawn_from(random.Random(3)):
        assert drawn() == first
    assert drawn() != first


async def test_tasks_started_inside_draw_from_the_source() -> None:
    async def draw() -> str:
        return chance.draw_hex(4)

    with chance.drawn_from(random.Random(3)):
        task = asyncio.ensure_future(draw())
    assert await task == random.Random(3).randbytes(4).hex()
