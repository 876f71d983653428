"""A lock for each key."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from loops_core.worker.keyed_lock import KeyedLock


def test_one_key_takes_turns() -> None:
    lock, inside, most = KeyedLock(), 0, 0

    def enter(_: int) -> None:
        nonlocal inside, most
        for _ in range(200):
            with lock.hold("a"):
                inside += 1
                most = max(most, inside)
                inside -= 1

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(enter, range(8)))
    assert most == 1
    assert not lock.num_keys


def test_another_key_does_not_wait() -> None:
    lock, entered = KeyedLock(), threading.Event()

    def enter() -> None:
        with lock.hold("b"):
            entered.set()

    with lock.hold("a"):
        threading.Thread(target=enter).start()
        assert entered.wait(30)
