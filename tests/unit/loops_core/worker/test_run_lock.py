"""One process at a time has a run's directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loops_core.errors import UsageError
from loops_core.worker.run_lock import RunLock

_ACQUIRE = """
import sys
from pathlib import Path
from loops_core.errors import UsageError
from loops_core.worker.run_lock import RunLock
try:
    RunLock.acquire(Path(sys.argv[1]))
except UsageError as error:
    sys.exit(error.message)
"""


def test_a_second_lock_is_refused_and_names_the_holder(tmp_path: Path) -> None:
    lock = RunLock.acquire(tmp_path)
    with pytest.raises(UsageError, match=f"open in process {os.getpid()} already"):
        RunLock.acquire(tmp_path)
    lock.release()


def test_a_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    first = RunLock.acquire(tmp_path)
    first.release()
    first.release()
    RunLock.acquire(tmp_path).release()


@pytest.mark.slow
def test_another_process_is_refused_until_the_release(tmp_path: Path) -> None:
    def acquire() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", _ACQUIRE, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    lock = RunLock.acquire(tmp_path)
    assert f"process {os.getpid()}" in acquire().stderr
    lock.release()
    assert acquire().returncode == 0
