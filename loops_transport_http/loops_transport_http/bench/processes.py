"""Processes of the benchmark's own: started, spoken to by lines of JSON, and always ended."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self, cast, final

from loops_core.errors import UnreachableError

JsonObject = Mapping[str, object]

_END_S: Final = 20.0
"""How long a process may take to end before it is killed."""


@final
class Child:
    """A process that says one line of JSON when it is ready, and ends with its standard input."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str] | None = None) -> None:
        """Start it and wait until it is ready.

        Args:
            command: program and arguments.
            env: environment variables to set besides those of this process.

        Raises:
            UnreachableError: it ended before it was ready; the message has its last words.
        """
        self._command = list(command)
        self._words = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            text=True,
            env={**os.environ, **(env or {})},
        )
        try:
            self.started: JsonObject = self._read()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Return the process's id."""
        return self._process.pid

    def ask(self, question: JsonObject) -> JsonObject:
        """Return its answer to one line of JSON.

        Raises:
            UnreachableError: it has ended.
        """
        stream = cast("IO[str]", self._process.stdin)
        try:
            stream.write(json.dumps(question) + "\n")
            stream.flush()
        except OSError as error:
            raise self._gone() from error
        return self._read()

    def rss_mib(self) -> float:
        """Return the memory that it has resident, in MiB."""
        shown = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self.pid)], capture_output=True, text=True, check=False
        )
        try:
            return int(shown.stdout) / 1024
        except ValueError as error:
            raise self._gone() from error

    def close(self) -> None:
        """End it: by SIGTERM, and by SIGKILL where that is not heard."""
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._words):
            if stream is not None and not stream.closed:
                stream.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _read(self) -> JsonObject:
        line = cast("IO[str]", self._process.stdout).readline()
        try:
            answer: object = json.loads(line)
        except ValueError as error:
            raise self._gone() from error
        return cast("JsonObject", answer)

    def _gone(self) -> UnreachableError:
        self._process.terminate()
        self._process.wait()
        self._words.seek(0)
        words = self._words.read()
        name = " ".join(Path(part).name for part in self._command[:3])
        return UnreachableError(
            f"{name} ended with code {self._process.returncode}: {words.strip()[-2000:]}"
        )
