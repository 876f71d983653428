"""A published client beside ours, in the interpreter where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, cast, final

from loops_core.errors import UsageError
from loops_transport_http.bench import published_worker, stub
from loops_transport_http.bench.measuring import Contender
from loops_transport_http.bench.processes import Child
from loops_transport_http.bench.workload import SMALL_VOCABULARY, TINY, BatchSize

NOT_INSTALLED: Final = (
    f"not installed: pip install {published_worker.DISTRIBUTION} somewhere (it needs Python 3.12), "
    "and name that interpreter with --sdk-python"
)

_CHECK: Final = (
    "import importlib.metadata as m, sys;"
    f"sys.stdout.write(m.version({published_worker.DISTRIBUTION!r}))"
)


def find_python(given: Path | None) -> Path | None:
    """Return an interpreter that has the published client, or None.

    Args:
        given: the interpreter to use; None = this one, or the `python3.12` on the search path.

    Raises:
        UsageError: the given one does not have it.
    """
    if given is not None:
        if not _has_client(given):
            raise UsageError(
                f"--sdk-python {given} does not import {published_worker.DISTRIBUTION}; expected "
                f"an interpreter in which it is installed: {given} -m pip install "
                f"{published_worker.DISTRIBUTION}",
                field="sdk_python",
            )
        return given
    found = (sys.executable, shutil.which("python3.12"))
    candidates = [Path(path) for path in found if path is not None]
    return next((python for python in candidates if _has_client(python)), None)


@final
class PublishedClient:
    """A process that holds a published client; close it by its `child`."""

    def __init__(self, python: Path) -> None:
        """Start it."""
        self.child = Child([str(python), str(Path(published_worker.__file__))])
        self.name = f"{self.child.started['distribution']} {self.child.started['version']}"

    def open(self, url: str, size: BatchSize = TINY, *, vocabulary: int = SMALL_VOCABULARY) -> None:
        """Open a client of the stub at an address, with a batch of a size."""
        self.child.ask(
            {
                "do": "open",
                "trainer_url": stub.trainer_url(url, size),
                "model": stub.model_name(size),
                "num_data": size.num_data,
                "length": size.length,
                "vocabulary": vocabulary,
            }
        )

    def contender(self, *, by: str = "s") -> Contender:
        """Return it as one that takes its calls, judged by wall clock (`s`) or CPU (`cpu_s`)."""
        return Contender(self.name, lambda: cast("float", self.child.ask({"do": "call"})[by]))


def _has_client(python: Path) -> bool:
    try:
        command = [str(python), "-c", _CHECK]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
