"""A script: works through a list of operations in child processes, which are killed on the way.

It imports everything once and then forks, so that a kill costs milliseconds. Reads a plan as JSON
from standard input, prints what it found as JSON. Points are counted: every statement of the
database before and after it ran, every commit, every file opened, renamed or removed, every step of
the machine.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypedDict

import sqlalchemy as sa
from sqlalchemy import event
from tests.recovery.model import Operation
from tests.recovery.toy import PATIENCE_S, ToyMachine, load_of, look, save_of

from loops_core.worker.host import OperationQueue
from loops_core.worker.queue_settings import QueueSettings

SETTINGS: Final = QueueSettings(snapshot_entries=4, max_attempts=10_000)
FILE_EVENTS: Final = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")


class Plan(TypedDict):
    """What to do.

    Attributes:
        root: an empty folder.
        num_operations: how many to work through.
        kills: for each directory the points at which its processes are killed, one after another;
            the last process is left alone.
        by: who kills: the process itself, at once, or its parent, a moment later.
    """

    root: str
    num_operations: int
    kills: list[list[int]]
    by: str


class Found(TypedDict):
    """What was found.

    Attributes:
        num_points: how many points a process passes that is left alone.
        num_killed: how many processes were killed.
        finals: the state and the results that each directory ended with.
    """

    num_points: int
    num_killed: int
    finals: list[str]


def operations(num_operations: int) -> list[Operation]:
    """Return a list with everything in it: changes, failures, reads, loads."""
    made = {3: save_of("bad"), 5: look(), 7: load_of("elsewhere"), 9: save_of("odd")}
    return [made.get(n % 10, save_of(f"good-{n}")) for n in range(num_operations)]


def work(directory: Path, num_operations: int, at_point: Callable[[], None]) -> str:
    """Submit everything, wait for everything, and return the final state and results."""
    machine = ToyMachine(at_step=at_point)
    queue = OperationQueue.open(directory, machine, settings=SETTINGS)
    keys = [f"key-{n}" for n in range(num_operations)]
    for key, operation in zip(keys, operations(num_operations), strict=True):
        assert queue.submit(*operation, idempotency_key=key) == key
    results = [repr(queue.wait(key, PATIENCE_S)) for key in keys]
    assert queue.close()
    return json.dumps([machine.names, results])


def count_points(at_point: Callable[[], None]) -> None:
    """Call `at_point` at every point of this process from now on."""

    def on_audit(name: str, _args: object) -> None:
        if name in FILE_EVENTS:
            at_point()

    for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(sa.Engine, name, lambda *_: at_point())
    sys.addaudithook(on_audit)


def run_child(plan: Plan, directory: Path, kill_at: int | None) -> int | None:
    """Return the number of points passed by a process, or None if it was killed."""
    progress, report = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(progress)
            _be_child(plan, directory, kill_at, report)
            status = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(status)
    os.close(report)
    num_points = 0
    while chunk := os.read(progress, 1 if plan["by"] == "parent" else 65_536):
        num_points += len(chunk)
        if plan["by"] == "parent" and num_points == kill_at:
            os.kill(child, signal.SIGKILL)
    os.close(progress)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert os.WEXITSTATUS(status) == 0, f"the process failed in {directory}"
    return num_points


def _be_child(plan: Plan, directory: Path, kill_at: int | None, report: int) -> None:
    num_points = 0

    def at_point() -> None:
        nonlocal num_points
        num_points += 1
        os.write(report, b".")
        if plan["by"] == "itself" and num_points == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    count_points(at_point)
    final = work(directory, plan["num_operations"], at_point)
    (directory / "final.json").write_text(final)


def main() -> None:
    """Carry out the plan."""
    plan: Plan = json.load(sys.stdin)
    root = Path(plan["root"])
    num_points = run_child(plan, root / "alone", None)
    assert num_points is not None
    found = Found(num_points=num_points, num_killed=0, finals=[])
    directories = [root / f"killed-{number}" for number in range(len(plan["kills"]))]
    for directory, kills in zip(directories, plan["kills"], strict=True):
        for kill_at in kills:
            found["num_killed"] += run_child(plan, directory, kill_at) is None
        assert run_child(plan, directory, None) is not None
    for directory in (root / "alone", *directories):
        found["finals"].append((directory / "final.json").read_text())
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
