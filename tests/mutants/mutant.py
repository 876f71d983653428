"""What a mutant is: one seeded fault, with the story that a user of such a service would tell."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal, final

from tests.mutants.editing import Change, Undo

Room = Literal["client", "transport", "worker", "server", "mock-backend", "sampler"]
"""Where the fault is: the client's code, its HTTP transport, the worker, the HTTP server, the mock
trainer, or the mock sampler."""


Place = Literal["inproc", "http", "world"]
"""Where it is looked for: in process, over HTTP, or in a simulated world whose network loses,
delays and repeats calls and whose worker dies now and then."""


@final
@dataclass(frozen=True, slots=True)
class Mutant:
    """One seeded fault.

    Attributes:
        id: its name, `<subject>.<what>`.
        story: what a user sees, in one line.
        room: where the fault is.
        changes: what it changes, all of it together.
        only: the one place where it shows; None = that of its room, in process if it can be.
    """

    id: str
    story: str
    room: Room
    changes: tuple[Change, ...]
    only: Place | None = None

    @property
    def place(self) -> Place:
        """Return where it is looked for."""
        return self.only or ("http" if self.room in ("transport", "server") else "inproc")

    @property
    def is_in_server(self) -> bool:
        """Return whether, of client and server, the server has the fault."""
        return self.room not in ("client", "transport")

    @contextlib.contextmanager
    def applied(self) -> Generator[None]:
        """Have the fault in this process while the block runs.

        Raises:
            StaleMutantError: the code that it changes has become another.
        """
        undo: list[Undo] = []
        try:
            undo.extend(change.apply() for change in self.changes)
            yield
        finally:
            for take_back in reversed(undo):
                take_back()
