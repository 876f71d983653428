"""A run that did not show what it promises says what, with what to do."""

from __future__ import annotations

import pytest

from loops_core.quickstart.job import QuickstartResult
from loops_core.quickstart.report import LossFigures
from loops_core.quickstart.resume import Continuation, ResumeProof


def make_result(*, last: float = 1.0, resumed: str = "aa") -> QuickstartResult:
    return QuickstartResult(
        losses=LossFigures(first=6.0, last=last),
        proof=ResumeProof(
            trained_on=Continuation(losses=(1.0,), files={"weights": "aa"}),
            resumed=Continuation(losses=(1.0,), files={"weights": resumed}),
        ),
        comparisons=(),
        checkpoint="bt://loops:r1/weights/trained",
        tokens_per_second=1.0,
        seconds=1.0,
    )


def test_a_good_run_has_no_failures() -> None:
    assert make_result().failures == []


@pytest.mark.parametrize("last", [3.0, 7.0, float("nan")])
def test_a_loss_that_did_not_fall_is_a_failure(last: float) -> None:
    (failure,) = make_result(last=last).failures
    assert "not under 50% of the first; take more --steps" in failure


def test_a_checkpoint_that_does_not_resume_exactly_is_a_failure() -> None:
    (failure,) = make_result(resumed="ab").failures
    assert failure == "the checkpoint did not resume bit for bit: file weights"
