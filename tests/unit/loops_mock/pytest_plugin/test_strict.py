"""Markers and options: a strict test fails on each planted mistake, and a correct loop passes."""

from __future__ import annotations

import pytest
from tests.unit.loops_mock.pytest_plugin.conftest import Run

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.slow  # whole pytest runs

LOOP = """
def sampled(answer):
    return [datum([1, 2, 3, *sequence.tokens]) for sequence in answer.sequences]

def loop(*, stale=False, unread=False, lost=False, left_open=False):
    service = ServiceClient()
    trainer = service.create_lora_training_client("mock-tiny", rank=2, seed=0)
    sampler = None
    for step in range(2):
        if sampler is None or not stale:
            sampler = trainer.save_weights_and_get_sampling_client().result()
        answer = sampler.sample(PROMPT, 2, SamplingParams(max_tokens=4, seed=step))
        train(trainer, sampled(answer))
    future = trainer.forward_backward(DATA) if lost else trainer.forward(DATA)
    if not unread:
        future.result()
    if not left_open:
        service.close()
"""


def test_a_strict_test_fails_on_each_mistake_and_no_other(run: Run) -> None:
    result = run(
        LOOP
        + """
pytestmark = pytest.mark.loops(strict=True)

def test_correct():
    loop()

@pytest.mark.parametrize("mistake", ["stale", "unread", "lost", "left_open"])
def test_planted(mistake):
    loop(**{mistake: True})
""",
        "-v",
    )
    result.assert_outcomes(passed=2, failed=3, errors=1)
    result.stdout.fnmatch_lines_random(
        [
            "*test_correct PASSED*",
            "*test_planted?left_open? ERROR*",
            "*client-not-closed: * in loop) was never closed*",
            "*stale-policy: sample #2 * in loop) was answered by policy version 1*",
            "*future-not-read: nobody read the result of forward #1 *",
            "*gradient-not-applied: the gradients of forward_backward #3 *",
        ]
    )


@pytest.mark.parametrize(
    ("options", "ini"), [(("--loops-strict",), ""), ((), "loops_strict = true")]
)
def test_all_tests_can_be_strict(run: Run, options: tuple[str, ...], ini: str) -> None:
    result = run(
        LOOP
        + """
def test_it(loops_watch):
    loop(unread=True)

@pytest.mark.loops(strict=False)
def test_that_is_not():
    loop(unread=True)
""",
        *options,
        ini=ini,
    )
    result.assert_outcomes(passed=1, failed=1)


def test_mistakes_can_be_allowed(run: Run) -> None:
    result = run(
        LOOP
        + """
pytestmark = pytest.mark.loops(strict=True)

@pytest.mark.loops(allow=("future-not-read:forward", "client-not-closed"))
def test_allowed():
    loop(unread=True, left_open=True)

@pytest.mark.loops(max_lag=1)
def test_lag():
    loop(stale=True)

@pytest.mark.loops(allow="future-not-raed")
def test_misspelt():
    loop()
"""
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*allow has 'future-not-raed'; expected one of*"])


def test_a_test_that_fails_by_itself_is_not_judged(run: Run) -> None:
    result = run(
        LOOP
        + """
@pytest.mark.loops(strict=True)
def test_it():
    loop(unread=True, left_open=True)
    raise RuntimeError("its own")
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*RuntimeError: its own*"])
    result.stdout.no_fnmatch_line("*mistake*")


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("loops(sede=1)", "*got sede: expected keywords among seed, *"),
        ("loops(7)", "*got 7: expected keywords among seed, *"),
        ("loops(seed='7')", "*(seed='7'): expected an integer from 0*"),
        ("loops(faults=3)", "*(faults=3): expected a FaultPlan*"),
        ("loops(allow=[1])", "*(allow=?1?): expected texts*"),
    ],
)
def test_a_wrong_marker_says_what_was_expected(run: Run, marker: str, message: str) -> None:
    result = run(f"@pytest.mark.{marker}\ndef test_it(loops_faults):\n    pass\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])
