"""`loops serve` as a process: started on a free port, ended by SIGTERM, started again.

A test asks for the fixture `server`, or makes a `Server` with options of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Self, final

import pytest

KEY: Final = "a-key-of-the-tests"

_STOP_TIMEOUT_S: Final = 60


@final
class Server:
    """Serves a data directory, over restarts at the same address.

    Attributes:
        url: where it answers.
        api_key: what callers must show; None where it asks for none, or made none this time.
        pid: the process.
        exit_codes: how each process ended.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        backend: str = "mock",
        base_models: Sequence[str] = ("mock-tiny",),
        api_keys: Sequence[str] = (KEY,),
        options: Sequence[str] = (),
    ) -> None:
        """Start serving; ready when this returns."""
        self.exit_codes: list[int] = []
        models = [word for model in base_models for word in ("--base-model", model)]
        keys = [word for key in api_keys for word in ("--api-key", key)]
        self._arguments = ["--backend", backend, *models, "--data-dir", str(data_dir), *keys]
        self._arguments += [*options, "--json"]
        self._log = data_dir.with_suffix(".log")
        self._process = self._start(port=0)

    def __enter__(self) -> Self:
        """Return the server."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, if it has not ended."""
        self.kill()

    @property
    def pid(self) -> int:
        """Return the process's number."""
        return self._process.pid

    @property
    def process(self) -> subprocess.Popen[str]:
        """Return the process."""
        return self._process

    def log(self) -> str:
        """Return what the processes wrote to standard error."""
        return self._log.read_text()

    def stop(self) -> int:
        """Ask the process to end, and return how it did."""
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=_STOP_TIMEOUT_S)
        self.exit_codes.append(self._process.returncode)
        return self._process.returncode

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        if self._process.poll() is None:
            self._process.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()

    def start(self) -> None:
        """Serve the same directory at the same address again, after `stop` or `kill`."""
        self._process = self._start(port=int(self.url.rpartition(":")[2]))

    def restart(self) -> None:
        """End the process and serve the same directory at the same address again."""
        self.stop()
        self.start()

    def _start(self, *, port: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "loops_core.cli", "serve", "--port", str(port)]
        env = {name: value for name, value in os.environ.items() if name != "LOOPS_API_KEY"}
        with self._log.open("a") as log:
            process = subprocess.Popen(
                [*command, *self._arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=env,
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            process.communicate()
            raise AssertionError(f"loops serve ended: {self.log()}")
        started = json.loads(line)
        self.url: str = started["url"]
        self.api_key: str | None = started["api_key"]
        return process


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Serve the mock with one key, from a directory of its own."""
    with Server(tmp_path / "data") as serving:
        yield serving
