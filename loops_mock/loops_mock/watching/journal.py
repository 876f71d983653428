"""The journal: what a watch's transports and observers write down, in the program's order."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar, final

from loops_mock.watching.events import Event
from loops_mock.watching.places import Place, place_of_caller

EventT = TypeVar("EventT", bound=Event)


@final
class Journal:
    """Events of one watch; written from many threads and event loops at once.

    A call takes its number when it is asked and is written down once it is answered, so `events`
    tells the order in which the program asked.
    """

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._ordinals: Counter[tuple[str, ...]] = Counter()
        self._operations: set[tuple[int, str]] = set()
        self._runs: dict[str, tuple[int, Place | None]] = {}
        self._num_services = 0
        self._number = 0

    def next_number(self) -> int:
        """Return the number of a call that is asked now."""
        with self._lock:
            self._number += 1
            return self._number

    def next_service(self) -> int:
        """Return the number of a service that is opened now."""
        with self._lock:
            self._num_services += 1
            return self._num_services - 1

    def next_ordinal(self, *of: str) -> int:
        """Return how many of these there have been, this one included."""
        with self._lock:
            self._ordinals[of] += 1
            return self._ordinals[of]

    def is_new(self, service: int, operation_id: str) -> bool:
        """Tell whether an operation is seen for the first time, and remember it."""
        with self._lock:
            is_new = (service, operation_id) not in self._operations
            self._operations.add((service, operation_id))
            return is_new

    def bind(self, run_id: str, service: int, place: Place | None) -> None:
        """Remember through which service, and by which line, a run was opened last."""
        with self._lock:
            self._runs[run_id] = (service, place)

    def opened_by(self, run_id: str | None) -> tuple[int, Place | None] | None:
        """Return through which service, and by which line, a run was opened last.

        None for a run of a service that is not watched.
        """
        with self._lock:
            if run_id is None:
                return (self._num_services - 1, None) if self._num_services else None
            return self._runs.get(run_id)

    def write(self, event: Event) -> None:
        """Keep an event."""
        with self._lock:
            self._events.append(event)

    def note(self, make: Callable[[int, Place | None], Event]) -> None:
        """Keep an event that happens now, on this thread."""
        self.write(make(self.next_number(), place_of_caller()))

    def events(self) -> Sequence[Event]:
        """Return everything that has been seen, in the order in which it was asked for."""
        with self._lock:
            return sorted(self._events, key=lambda event: event.number)
