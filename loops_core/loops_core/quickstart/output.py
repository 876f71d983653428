"""Where a run's files are written."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from loops_core.errors import UsageError


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """Where the files of a run are written.

    Attributes:
        directory: the folder that holds them.
    """

    directory: Path

    @property
    def metrics(self) -> Path:
        """Return the place of the metrics, one JSON object a step."""
        return self.directory / "metrics.jsonl"

    @property
    def loss_curve(self) -> Path:
        """Return the place of the loss curve."""
        return self.directory / "loss.png"

    @property
    def samples(self) -> Path:
        """Return the place of the answers, one JSON object a prompt."""
        return self.directory / "samples.jsonl"

    @property
    def adapter(self) -> Path:
        """Return the folder of the adapter in PEFT format."""
        return self.directory / "adapter"


def prepare_output(directory: Path) -> OutputFiles:
    """Return the places of the files, with the folder made and an earlier run's adapter removed.

    Raises:
        UsageError: there is something else at the path, or an `adapter` that is none.
    """
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"output {str(directory)!r} is a file; expected a folder", field="output")
    files = OutputFiles(directory.absolute())
    if files.adapter.exists():
        if not (files.adapter / "adapter_config.json").is_file():
            raise UsageError(
                f"output: {files.adapter} exists and holds no adapter; choose another --output",
                field="output",
            )
        shutil.rmtree(files.adapter)
    files.directory.mkdir(parents=True, exist_ok=True)
    return files
