"""The proof that a checkpoint resumes bit for bit: the same steps, taken twice, compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Protocol

from loops_core.quickstart.training import RESULT_TIMEOUT_S, Pending, StepRecord, Trainee
from loops_core.types.training import LoadWeightsResponse, SaveWeightsResponse

CHECKPOINT_NAME: Final = "after-resume-steps"


class Resumable(Trainee, Protocol):
    """What is used of a TrainingClient."""

    def save_state(self, name: str) -> Pending[SaveWeightsResponse]:
        """Submit a save of the complete state."""
        ...

    def load_state_with_optimizer(self, path: str) -> Pending[LoadWeightsResponse]:
        """Submit a load of a complete state."""
        ...

    def download_checkpoint(self, *, dest_dir: Path, name: str, target: str) -> object:
        """Copy a checkpoint's files into an empty directory."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """What came of some further steps.

    Attributes:
        losses: one a step.
        files: SHA-256 of each file of the state saved after them, by name.
    """

    losses: tuple[float, ...]
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeProof:
    """The two continuations: of the client that trained on, and of one that loaded its checkpoint.

    Attributes:
        trained_on: the first.
        resumed: the second.
    """

    trained_on: Continuation
    resumed: Continuation

    @property
    def is_exact(self) -> bool:
        """Tell whether every loss and every byte is the same."""
        return bool(self.trained_on.files) and self.trained_on == self.resumed

    @property
    def differences(self) -> list[str]:
        """Return what differs, as text; empty where `is_exact`."""
        first, second = self.trained_on, self.resumed
        steps = [
            f"loss of further step {number}: {a!r} and {b!r}"
            for number, (a, b) in enumerate(zip(first.losses, second.losses, strict=True), start=1)
            if a != b
        ]
        names = sorted(first.files.keys() | second.files.keys())
        files = [f"file {n}" for n in names if first.files.get(n) != second.files.get(n)]
        return [*steps, *files] if first.files else [*steps, "no files were saved"]


def prove_resume(
    client: Resumable,
    second: Resumable,
    *,
    path: str,
    run_steps: Callable[[Trainee], list[StepRecord]],
) -> ResumeProof:
    """Return the continuations of `client` as it is and of `second`, which loads `path`.

    Args:
        client: stands exactly where the checkpoint at `path` was saved.
        second: a training client on a fresh adapter of the same base model.
        path: address of the checkpoint.
        run_steps: takes the same further steps on whichever client it is given.
    """
    trained_on = _continue(client, run_steps)
    second.load_state_with_optimizer(path).result(timeout=RESULT_TIMEOUT_S)
    return ResumeProof(trained_on=trained_on, resumed=_continue(second, run_steps))


def _continue(client: Resumable, run_steps: Callable[[Trainee], list[StepRecord]]) -> Continuation:
    losses = tuple(record.loss for record in run_steps(client))
    client.save_state(CHECKPOINT_NAME).result(timeout=RESULT_TIMEOUT_S)
    with TemporaryDirectory(prefix="loops-resume-") as folder:
        directory = Path(folder)
        client.download_checkpoint(dest_dir=directory, name=CHECKPOINT_NAME, target="trainer")
        return Continuation(losses=losses, files=digest_files(directory))


def digest_files(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in `directory`, by its name below it."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }
