"""Tests play their cassettes, and record them when asked."""

from __future__ import annotations

import pytest
from tests.unit.loops_mock.pytest_plugin.conftest import Run

pytest_plugins = ["pytester"]

LOOP = """
URL = os.environ.get("SERVICE", "https://nowhere.invalid")

def losses():
    with ServiceClient(base_url=URL) as service:
        return train(service.create_lora_training_client("mock-tiny", rank=2, seed=0))
"""

MARKED = f"""
{LOOP}
@pytest.mark.loops_cassette("kept/run.loops")
def test_it():
    assert losses() > 0
"""


def test_a_cassette_is_recorded_when_asked_and_played_from_then_on(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = run(MARKED)
    missing.assert_outcomes(errors=1)
    missing.stdout.fnmatch_lines(["*run this test once with --loops-record*"])
    monkeypatch.setenv("SERVICE", "inproc:mock?data_dir=:memory:")
    run(MARKED, "--loops-record").assert_outcomes(passed=1)
    first = (pytester.path / "kept" / "run.loops").read_bytes()
    monkeypatch.delenv("SERVICE")
    run(MARKED).assert_outcomes(passed=1)
    assert (pytester.path / "kept" / "run.loops").read_bytes() == first


def test_a_cassette_is_called_as_its_test(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE", "inproc:mock?data_dir=:memory:")
    text = f"""
{LOOP}
@pytest.mark.parametrize("size", ["a b"])
def test_it(loops_cassette, size):
    assert losses() > 0
    assert loops_cassette.name == "test_it-a-b.loops"
"""
    run(text, "--loops-record").assert_outcomes(passed=1)
    assert (pytester.path / "cassettes" / "test_it-a-b.loops").exists()


def test_a_replay_is_watched(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = MARKED.replace(
        "@pytest.mark.loops_cas", "@pytest.mark.loops(strict=True)\n@pytest.mark.loops_cas"
    )
    text = text.replace("return train(", "trainer = (").replace(
        "seed=0))", "seed=0))\n        trainer.forward(DATA)\n        return 1"
    )
    monkeypatch.setenv("SERVICE", "inproc:mock?data_dir=:memory:")
    run(text, "--loops-record").assert_outcomes(failed=1)
    monkeypatch.delenv("SERVICE")
    judged = run(text)
    judged.assert_outcomes(failed=1)
    judged.stdout.fnmatch_lines(["*future-not-read*"])


def test_a_marker_with_something_else_is_refused(run: Run) -> None:
    result = run(MARKED.replace('"kept/run.loops"', "3"))
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*got 3: expected one path*"])
