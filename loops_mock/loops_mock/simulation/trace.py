"""What happened in a world, event by event; equal runs have equal traces."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any, final

Detail = str | int | float | None


@final
@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        time_s: when, in seconds since the world began.
        what: `send`, `reply`, `fault`, `run`, `end`, `deploy`, `down` or `up`.
        about: the route, the operation's kind, or the fault.
        details: what else there is to say, in a fixed order for each `what`.
    """

    time_s: float
    what: str
    about: str
    details: tuple[Detail, ...] = ()

    def __str__(self) -> str:
        """Return the event as a line."""
        rest = " ".join(str(detail) for detail in self.details)
        return f"{self.time_s:12.6f}  {self.what:<7} {self.about} {rest}".rstrip()


@final
class Trace:
    """The events of a world, in the order in which they happened."""

    def __init__(self) -> None:
        self._events: list[tuple[Any, ...]] = []  # time, what, about, and the details

    def add(self, time_s: float, what: str, about: str, *details: Detail) -> None:
        """Add an event; its details are plain values, the same in every process."""
        self._events.append((time_s, what, about, *details))

    def __len__(self) -> int:
        """Return how many events there are."""
        return len(self._events)

    def __str__(self) -> str:
        """Return the events as lines."""
        return "\n".join(map(str, self.events()))

    def events(self, what: str | None = None) -> list[Event]:
        """Return the events, all or those of one kind."""
        return [
            Event(event[0], event[1], event[2], event[3:])
            for event in self._events
            if what is None or event[1] == what
        ]

    def counts(self) -> dict[str, int]:
        """Return how many events of each kind there are."""
        return dict(Counter(event[1] for event in self._events))

    def digest(self) -> str:
        """Return the SHA-256 of all events; times count to the last bit."""
        digest = hashlib.sha256()
        for event in self._events:
            digest.update(repr(event).encode())
        return digest.hexdigest()
