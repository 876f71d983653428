"""The table of states and steps."""

from __future__ import annotations

from loops_core.worker.lifecycle import FINAL, TRANSITIONS, EntryState, EntryStep


def test_every_step_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(EntryStep)


def test_nothing_leads_out_of_a_final_state() -> None:
    assert {before for before, _ in TRANSITIONS.values()}.isdisjoint(FINAL)


def test_every_other_state_leads_somewhere() -> None:
    assert {before for before, _ in TRANSITIONS.values()} == set(EntryState) - FINAL


def test_only_a_queued_entry_can_be_cancelled() -> None:
    assert TRANSITIONS[EntryStep.CANCEL] == (EntryState.QUEUED, EntryState.CANCELLED)


def test_an_interrupted_entry_waits_again() -> None:
    assert TRANSITIONS[EntryStep.INTERRUPT] == (EntryState.RUNNING, EntryState.QUEUED)


def test_every_state_is_reached_from_queued() -> None:
    reached = {EntryState.QUEUED}
    for _ in TRANSITIONS:
        reached |= {after for before, after in TRANSITIONS.values() if before in reached}
    assert reached == set(EntryState)


def test_a_state_knows_whether_it_is_final() -> None:
    assert {state for state in EntryState if state.is_final} == FINAL
