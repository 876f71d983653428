"""Places: the line of the user's program that a call came from."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_OWN: Final = frozenset(
    {
        "loops_core",
        "loops_mock",
        "loops_transport_http",
        "loops_backend_jax",
        "contextlib",
        "functools",
        "pluggy",
        "asyncio.tasks",
        "asyncio.timeouts",
        "concurrent",
    }
)
"""Modules that pass a call on; the line of a user's program is behind them."""

_EDGES: Final = frozenset({"_pytest", "asyncio.events", "asyncio.base_events", "threading"})
"""Modules that start a program or a part of it: behind them is not the line that asked."""


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a program.

    Attributes:
        file: the path of its file.
        line: its number.
        function: the function that it belongs to.
    """

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line} in {self.function}"


def place_of_caller() -> Place | None:
    """Return the innermost line on this thread's stack that is not of Loops itself.

    None where a call was handed straight to an event loop or a thread: `asyncio.gather` of two of
    Loops' coroutines leaves no line of the user's in between.
    """
    frame = inspect.currentframe()
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        names = {module, module.partition(".")[0]}
        if names & _EDGES:
            return None
        if not names & _OWN:
            return Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        frame = frame.f_back
    return None
