"""A small deterministic machine, a clock that stands still, and ways to end a process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, final

import sqlalchemy as sa
from sqlalchemy import event

from loops_core.errors import CheckpointError, UsageError
from loops_core.types.base import WireModel
from loops_core.types.operation import (
    ForwardBody,
    LoadStateBody,
    OperationBody,
    OperationKind,
    SaveStateBody,
)
from loops_core.types.training import (
    ForwardBackwardOutput,
    LoadWeightsResponse,
    SaveWeightsResponse,
)
from loops_core.worker.log import LogEntry

PATIENCE_S: Final = 30.0
"""Longer than anything here takes: a test that waits so long has failed."""


MEMORY_FOLDER: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where to keep folders: a loss of power cannot be tested here, so nothing has to reach a disk."""


class Crash(SystemExit):
    """The end of the process, as seen by the thread that it hits."""


@final
class FakeClock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.time_s = 1_000_000.0

    def now(self) -> float:
        return self.time_s

    def monotonic(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.time_s += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.time_s += seconds

    def advance(self, seconds: float) -> None:
        self.time_s += seconds


@final
class Gate:
    """Holds the thread that applies entries before each one, until a test lets it pass."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: str | None = None
        self._num_allowed = 0
        self._is_open = False

    def hold(self, operation_id: str) -> None:
        with self._changed:
            self._held = operation_id
            self._changed.notify_all()
            ready = self._changed.wait_for(self._may_pass, PATIENCE_S)
            assert ready, "nobody let the entry pass"
            self._num_allowed -= 1
            self._held = None

    def let_pass(self, num_entries: int = 1) -> None:
        with self._changed:
            self._num_allowed += num_entries
            self._changed.notify_all()

    def open(self) -> None:
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def wait_for(self, operation_id: str) -> None:
        """Return once the thread stands before this entry."""
        with self._changed:
            held = self._changed.wait_for(lambda: self._held == operation_id, PATIENCE_S)
            assert held, f"{operation_id} was not taken"

    def _may_pass(self) -> bool:
        return self._is_open or self._num_allowed > 0


@final
class ToyMachine:
    """Its state is the list of the names that took effect; a result tells the state's length.

    `save_state` adds its name to the list, `load_state` its path; a name that starts with `bad` is
    refused, one that starts with `odd` fails with an error that is not ours. `forward` only looks.

    Attributes:
        names: the state.
        sequences: the sequences of the entries applied in this process.
        outside: what was written elsewhere, by operation id; survives the machine.
        faults: `before_apply`, `after_apply`, `in_save`, `in_replay`: where to end the process,
            once; `save_fails`: let every save fail, as on a full disk.
    """

    def __init__(
        self,
        *,
        gate: Gate | None = None,
        outside: dict[str, str] | None = None,
        at_step: Callable[[], None] = lambda: None,
    ) -> None:
        self.names: list[str] = []
        self.sequences: list[int] = []
        self.outside = {} if outside is None else outside
        self.faults: set[str] = set()
        self.num_saves = 0
        self.num_replayed = 0
        self.is_closed = False
        self._gate = gate
        self._at_step = at_step
        self._busy = threading.Lock()

    def apply(self, entry: LogEntry) -> WireModel:
        assert not self.is_closed
        assert self._busy.acquire(blocking=False), "two entries at once"
        try:
            if self._gate is not None:
                self._gate.hold(entry.operation_id)
            self._end_at("before_apply")
            result = self._change(entry)
            self.sequences.append(entry.sequence)
            self.outside[entry.operation_id] = "written"
            self._end_at("after_apply")
            return result
        finally:
            self._busy.release()

    def replay(self, entry: LogEntry, result: WireModel) -> None:
        self.num_replayed += 1
        self._end_at("in_replay")
        assert self._change(entry) == result
        assert self.outside.get(entry.operation_id, "written") == "written"

    def save(self, path: Path) -> None:
        assert not list(path.iterdir())
        self.num_saves += 1
        (path / "half").mkdir()
        (path / "half" / "first.json").write_text(json.dumps(self.names[::2]))
        self._end_at("in_save")
        if "save_fails" in self.faults:
            raise OSError(28, "No space left on device")
        (path / "second.json").write_text(json.dumps(self.names[1::2]))

    def load(self, path: Path) -> None:
        try:
            first = json.loads((path / "half" / "first.json").read_text())
            second = json.loads((path / "second.json").read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"no toy: {error}") from error
        self.names = [*first, *second]
        self.names[::2], self.names[1::2] = first, second

    def close(self) -> None:
        self.is_closed = True

    def _change(self, entry: LogEntry) -> WireModel:
        body = entry.body
        if isinstance(body, SaveStateBody):
            if body.name.startswith("bad"):
                raise UsageError(f"name {body.name!r} is bad: expected a good one", field="name")
            if body.name.startswith("odd"):
                raise RuntimeError(f"{body.name} is odd")
            self.names.append(body.name)
            return SaveWeightsResponse(mode="toy", path=f"{len(self.names)}:{body.name}")
        if isinstance(body, LoadStateBody):
            self.names.append(body.path)
            return LoadWeightsResponse(step=len(self.names))
        return ForwardBackwardOutput(loss=float(len(self.names)))

    def _end_at(self, point: str) -> None:
        self._at_step()
        if point in self.faults:
            self.faults.remove(point)
            raise Crash(point)


def save_of(name: str) -> tuple[OperationKind, OperationBody]:
    """Return an operation that adds a name to the state."""
    return OperationKind.SAVE_STATE, SaveStateBody(name=name, seq_id=len(name))


def load_of(path: str) -> tuple[OperationKind, OperationBody]:
    """Return an operation that adds a path to the state, and reads files from outside."""
    return OperationKind.LOAD_STATE, LoadStateBody(path=path)


def look() -> tuple[OperationKind, OperationBody]:
    """Return an operation that changes nothing."""
    return OperationKind.FORWARD, ForwardBody(data=[])


@contextmanager
def crash_at_sql(start: str) -> Generator[Callable[[], bool]]:
    """End the thread of the database when it is about to run a statement with this start, once.

    The value is a function that tells whether it has happened.
    """
    hits: list[str] = []

    def listen(_connection: sa.Connection, _cursor: Any, statement: str, *_rest: object) -> None:
        if statement.startswith(start) and not hits:
            hits.append(statement)
            raise Crash(start)

    event.listen(sa.Engine, "before_cursor_execute", listen)
    try:
        yield lambda: bool(hits)
    finally:
        event.remove(sa.Engine, "before_cursor_execute", listen)


@contextmanager
def crash_at_commit() -> Generator[None]:
    """End the thread of the database when it is about to commit for the first time."""
    hits: list[str] = []

    def listen(_connection: sa.Connection) -> None:
        if not hits:
            hits.append("commit")
            raise Crash("commit")

    event.listen(sa.Engine, "commit", listen)
    try:
        yield
    finally:
        event.remove(sa.Engine, "commit", listen)
