"""Threads that a test ends on purpose end quietly; folders lie in memory where that is possible."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.recovery.toy import MEMORY_FOLDER, Crash


@pytest.fixture(autouse=True)
def quiet_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    report = threading.excepthook

    def report_others(args: threading.ExceptHookArgs) -> None:
        if not issubclass(args.exc_type, Crash):
            report(args)

    monkeypatch.setattr(threading, "excepthook", report_others)


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """Return a new folder, in memory where that is possible."""
    with tempfile.TemporaryDirectory(prefix="loops-recovery-", dir=MEMORY_FOLDER) as folder:
        yield Path(folder)
