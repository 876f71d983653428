"""The proof of resuming compares every loss and every byte, and says what differs."""

from __future__ import annotations

import pytest

from loops_core.quickstart.resume import Continuation, ResumeProof


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
