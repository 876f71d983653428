"""Turning loops: a step after the other, and an idle loop goes on when its bell rings."""

from __future__ import annotations

import threading

from loops_core.worker.turning import THREADS, Idle, Turns
from loops_core.worker.waits import Doorbell

PATIENCE_S = 30.0


def test_an_idle_loop_goes_on_when_its_bell_rings() -> None:
    bell, reached = Doorbell(), threading.Event()

    def turns() -> Turns:
        yield Idle()
        reached.set()

    turning = THREADS.start(turns(), bell, name="test")
    assert turning.is_alive()
    assert not reached.is_set()
    bell.ring()
    turning.join(PATIENCE_S)
    assert reached.is_set()
    assert not turning.is_alive()


def test_an_idle_loop_goes_on_when_its_time_is_over() -> None:
    def turns() -> Turns:
        yield Idle(0.0)

    turning = THREADS.start(turns(), Doorbell(), name="test")
    turning.join(PATIENCE_S)
    assert not turning.is_alive()


def test_a_bell_tells_its_listener_once_until_it_is_answered() -> None:
    bell, heard = Doorbell(), list[int]()
    bell.listen(lambda: heard.append(1))
    bell.ring()
    bell.ring()
    assert len(heard) == 1
    bell.answer()
    bell.ring()
    assert len(heard) == 2
