"""The proof of resuming compares every loss and every byte, and says what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar, final

import pytest

from loops_core.quickstart.resume import Continuation, ResumeProof, digest_files, prove_resume
from loops_core.quickstart.training import Pending, StepRecord, Trainee
from loops_core.types.datum import Datum
from loops_core.types.training import (
    AdamParams,
    ForwardBackwardOutput,
    LoadWeightsResponse,
    OptimStepResponse,
    SaveWeightsResponse,
)

ResultT = TypeVar("ResultT")


@final
class Done(Generic[ResultT]):
    """A finished operation."""

    def __init__(self, value: ResultT) -> None:
        self._value = value

    def result(self, timeout: float | None = None) -> ResultT:
        return self._value


def make_record(*, step: int, loss: float) -> StepRecord:
    return StepRecord(
        step=step,
        loss=loss,
        grad_norm=1.0,
        learning_rate=0.1,
        active_tokens=1,
        tokens=1,
        seconds=1.0,
        tokens_per_second=1.0,
    )


def prove(
    losses: tuple[float, ...], files: dict[str, str], *, first_files: dict[str, str] | None = None
) -> ResumeProof:
    start = {"weights": "aa", "moments": "bb"} if first_files is None else first_files
    return ResumeProof(
        trained_on=Continuation(losses=(1.0, 0.5), files=start),
        resumed=Continuation(losses=losses, files=files),
    )


def test_equal_losses_and_files_are_exact() -> None:
    proof = prove((1.0, 0.5), {"moments": "bb", "weights": "aa"})
    assert proof.is_exact
    assert proof.differences == []


@pytest.mark.parametrize(
    ("losses", "files", "difference"),
    [
        ((1.0, 0.5000001), {"weights": "aa", "moments": "bb"}, "loss of further step 2"),
        ((1.0, 0.5), {"weights": "ab", "moments": "bb"}, "file weights"),
        ((1.0, 0.5), {"weights": "aa"}, "file moments"),
    ],
)
def test_the_least_difference_is_found(
    losses: tuple[float, ...], files: dict[str, str], difference: str
) -> None:
    proof = prove(losses, files)
    assert not proof.is_exact
    assert len(proof.differences) == 1
    assert proof.differences[0].startswith(difference)


def test_a_proof_without_files_is_none() -> None:
    proof = prove((1.0, 0.5), {}, first_files={})
    assert not proof.is_exact
    assert proof.differences == ["no files were saved"]


@final
class Counter:
    """A trainer whose state is one number; a load adds `drift` to it."""

    def __init__(self, shelf: dict[str, int], *, start: int = 0, drift: int = 0) -> None:
        self.shelf, self.state, self.drift = shelf, start, drift

    def forward_backward(self, data: list[Datum]) -> Pending[ForwardBackwardOutput]:
        raise NotImplementedError

    def optim_step(self, adam_params: AdamParams) -> Pending[OptimStepResponse]:
        raise NotImplementedError

    def save_state(self, name: str) -> Done[SaveWeightsResponse]:
        self.shelf[name] = self.state
        return Done(SaveWeightsResponse(path=name))

    def load_state_with_optimizer(self, path: str) -> Done[LoadWeightsResponse]:
        self.state = self.shelf[path] + self.drift
        return Done(LoadWeightsResponse())

    def download_checkpoint(self, *, dest_dir: Path, name: str, target: str) -> None:
        assert target == "trainer"
        (dest_dir / "state").write_text(str(self.shelf[name]))


def take_steps(client: Trainee) -> list[StepRecord]:
    assert isinstance(client, Counter)
    client.state += 1
    return [make_record(step=1, loss=float(client.state))]


@pytest.mark.parametrize(("drift", "is_exact"), [(0, True), (1, False)])
def test_both_continuations_start_from_the_checkpoint(drift: int, is_exact: bool) -> None:
    shelf: dict[str, int] = {}
    client = Counter(shelf, start=7)
    client.save_state("trained")
    second = Counter(shelf, drift=drift)
    proof = prove_resume(client, second, path="trained", run_steps=take_steps)
    assert proof.trained_on.losses == (8.0,)
    assert proof.is_exact == is_exact


def test_files_are_told_apart_by_name_and_content(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "one").write_text("x")
    (tmp_path / "deep" / "two").write_text("x")
    digests = digest_files(tmp_path)
    assert set(digests) == {"one", "deep/two"}
    (tmp_path / "one").write_text("y")
    assert digest_files(tmp_path)["one"] != digests["one"]
