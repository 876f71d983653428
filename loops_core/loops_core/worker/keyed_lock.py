"""A lock for each key: what belongs to one key takes turns, the rest does not wait for it."""

from __future__ import annotations

import threading
from collections.abc import Generator, Hashable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import final


@dataclass(slots=True)
class _Held:
    lock: threading.Lock = field(default_factory=threading.Lock)
    num_users: int = 0


@final
class KeyedLock:
    """Locks by key; a key that nobody holds or waits for takes no memory."""

    def __init__(self) -> None:
        """Start without keys."""
        self._lock = threading.Lock()
        self._held: dict[Hashable, _Held] = {}

    @property
    def num_keys(self) -> int:
        """Return how many keys somebody holds or waits for."""
        return len(self._held)

    @contextmanager
    def hold(self, key: Hashable) -> Generator[None]:
        """Keep everybody else out of this key while the block runs."""
        with self._lock:
            held = self._held.setdefault(key, _Held())
            held.num_users += 1
        try:
            with held.lock:
                yield
        finally:
            with self._lock:
                held.num_users -= 1
                if not held.num_users:
                    del self._held[key]
