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

_STARTS: Final = frozenset({"_pytest", "threading"})
"""Modules that start a part of a program: behind them is not the line that asked."""

_LOOPS: Final = frozenset({"asyncio.events", "asyncio.base_events"})
"""Modules that turn an event loop: behind them is the line that asked only if it drives the loop,
as a blocking call does in a simulated world."""

_WORLD: Final = "loops_mock.simulation."
_DRIVES: Final = "loops_core.client.drivers"


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
    is_in_loop = False
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        names = {module, module.partition(".")[0]}
        if names & _STARTS:
            return None
        if module in _LOOPS:
            is_in_loop = True
        elif is_in_loop:
            if module == _DRIVES:
                is_in_loop = False
            elif not module.startswith(_WORLD):
                return None
        elif not names & _OWN:
            return Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        frame = frame.f_back
    return None
