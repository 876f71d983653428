"""What is remembered of a log: all that waits, and the last that ended."""

from __future__ import annotations

from loops_core.worker.entries import Outcome
from loops_core.worker.lifecycle import EntryState
from loops_core.worker.log_recent import RecentOutcomes


def waiting(key: str) -> Outcome:
    return Outcome(operation_id=key, kind="save_state", state=EntryState.QUEUED)


def ended(key: str, num_bytes: int = 0) -> Outcome:
    return Outcome(
        operation_id=key,
        kind="save_state",
        state=EntryState.DONE,
        result=bytes(num_bytes),
        finished_s=1.0,
    )


def test_the_last_word_counts() -> None:
    recent = RecentOutcomes()
    for outcome in (waiting("a"), ended("a"), waiting("a"), ended("a", 3)):
        recent.put(outcome)
        assert recent.get("a") == outcome


def test_the_oldest_results_make_way_and_what_waits_does_not() -> None:
    recent = RecentOutcomes()
    recent.put(waiting("waits"))
    for n in range(2_000):
        recent.put(ended(str(n)))
    assert recent.get("0") is None
    assert recent.get("1999") is not None
    recent.put(ended("large", 10_000_000))
    recent.put(ended("as large", 10_000_000))
    assert recent.get("large") is None
    assert recent.get("as large") is not None
    assert recent.get("waits") == waiting("waits")


def test_what_has_ended_can_be_forgotten() -> None:
    recent = RecentOutcomes()
    recent.put(waiting("a"))
    recent.put(ended("b", 10_000_000))
    recent.forget_ended()
    assert (recent.get("a"), recent.get("b")) == (waiting("a"), None)
    recent.put(ended("c", 10_000_000))
    assert recent.get("c") is not None
    recent.clear()
    assert (recent.get("a"), recent.get("c")) == (None, None)
