"""The log itself: keys, order, what it keeps and for how long."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import pytest
from tests.recovery.toy import FakeClock, load_of, save_of

from loops_core.errors import LoopsError, ServerShutdownError
from loops_core.types.frames import pack
from loops_core.types.operation import OperationKind, SaveStateBody
from loops_core.worker.entries import Appended, Outcome, StoredEntry, body_digest
from loops_core.worker.lifecycle import EntryState
from loops_core.worker.log import OperationLog
from loops_core.worker.log_durable import DurableLog
from loops_core.worker.log_memory import MemoryLog

NEW = Appended(is_new=True, is_same=True)
SAME = Appended(is_new=False, is_same=True)
OTHER = Appended(is_new=False, is_same=False)


@pytest.fixture(params=["memory", "file"])
def log(
    request: pytest.FixtureRequest, tmp_path: Path, fake_clock: FakeClock
) -> Iterator[OperationLog]:
    made: OperationLog = MemoryLog(clock=fake_clock)
    if request.param == "file":
        made = DurableLog.open(tmp_path / "log.sqlite", clock=fake_clock)
    yield made
    made.close()


def append(log: OperationLog, key: str, name: str = "good") -> Appended:
    kind, body = save_of(name)
    return append_body(log, kind, pack(body), key)


def append_body(log: OperationLog, kind: OperationKind, body: bytes, key: str) -> Appended:
    appended = log.append(kind, body, key)
    return appended.result() if isinstance(appended, Future) else appended


def end(log: OperationLog, stored: StoredEntry, state: EntryState, *, at_s: float) -> None:
    outcome = Outcome(
        operation_id=stored.operation_id,
        kind=stored.kind,
        state=state,
        result=b"result",
        finished_s=at_s,
    )
    log.finish(stored.sequence, outcome, take=False)


def run(log: OperationLog, state: EntryState = EntryState.DONE, *, at_s: float = 0) -> StoredEntry:
    stored = log.take()
    assert stored is not None
    end(log, stored, state, at_s=at_s)
    return stored


def test_a_key_is_appended_once(log: OperationLog) -> None:
    assert [append(log, "a"), append(log, "a"), append(log, "b")] == [NEW, SAME, NEW]


def test_a_key_is_held_by_its_first_body(log: OperationLog) -> None:
    assert [append(log, "a", "one"), append(log, "a", "two")] == [NEW, OTHER]


def test_a_key_is_held_by_its_first_operation(log: OperationLog) -> None:
    kind, body = load_of("somewhere")
    assert append_body(log, kind, pack(body), "a") == NEW
    other = OperationKind.LOAD_STATE_WITH_OPTIMIZER
    assert append_body(log, other, pack(body), "a") == OTHER


def test_recall_answers_as_a_second_append_would(log: OperationLog) -> None:
    kind, body = save_of("good")
    assert log.recall(kind, pack(body), "a").result() is None
    append(log, "a")
    assert log.recall(kind, pack(body), "a").result() == SAME
    assert log.recall(kind, pack(SaveStateBody(name="x")), "a").result() == OTHER


def test_a_cancelled_entry_is_never_taken(log: OperationLog) -> None:
    append(log, "a")
    append(log, "b")
    first, second = log.cancel("a"), log.cancel("a")
    assert first is not None
    assert second is not None
    assert (first.was_queued, second.was_queued) == (True, False)
    assert first.outcome == second.outcome == log.find("a").result()
    assert (first.outcome.kind, first.outcome.state) == ("save_state", EntryState.CANCELLED)
    assert run(log).operation_id == "b"
    assert log.cancel("c") is None


def test_what_runs_or_has_ended_is_not_cancelled(log: OperationLog) -> None:
    append(log, "a")
    stored = log.take()
    assert stored is not None
    found = log.cancel("a")
    assert found is not None
    assert (found.was_queued, found.outcome.state) == (False, EntryState.RUNNING)
    end(log, stored, EntryState.DONE, at_s=0)
    found = log.cancel("a")
    assert found is not None
    assert (found.was_queued, found.outcome.state) == (False, EntryState.DONE)


def test_what_waits_is_counted_with_the_bytes_of_its_bodies(log: OperationLog) -> None:
    assert log.count_queued() == (0, 0)
    append(log, "a")
    append(log, "b")
    num_bytes = len(pack(save_of("good")[1]))
    assert log.count_queued() == (2, 2 * num_bytes)
    run(log)
    assert log.count_queued() == (1, num_bytes)


def test_a_key_that_has_expired_is_new_again(log: OperationLog, fake_clock: FakeClock) -> None:
    append(log, "a")
    run(log, EntryState.FAILED, at_s=fake_clock.now())
    fake_clock.advance(20)
    log.expire(results_kept_s=10, keys_kept_s=20)
    assert log.find("a").result() is None
    assert append(log, "a") == NEW


def test_a_peek_never_says_other_than_the_log(log: OperationLog, fake_clock: FakeClock) -> None:
    def looks_the_same(*keys: str) -> bool:
        return all(log.peek(key) == log.find(key).result() for key in keys)

    assert log.peek("a") is None
    for key in "abc":
        append(log, key)
        append(log, key)
    assert looks_the_same("a", "b", "c")
    stored = log.take()
    assert stored is not None
    assert looks_the_same("a", "b", "c")
    end(log, stored, EntryState.FAILED, at_s=fake_clock.now())
    log.cancel("b")
    assert looks_the_same("a", "b", "c")
    run(log, at_s=fake_clock.now())
    assert looks_the_same("a", "b", "c")
    fake_clock.advance(100)
    log.expire(results_kept_s=10, keys_kept_s=20)
    assert log.peek("a") is None
    append(log, "a")
    assert looks_the_same("a")


def test_a_closed_log_refuses_everything(log: OperationLog) -> None:
    append(log, "a")
    log.close()
    log.close()
    for call in (
        lambda: append(log, "b"),
        log.take,
        lambda: log.cancel("a"),
        lambda: log.find("a").result(),
        log.count_queued,
        lambda: log.expire(results_kept_s=10, keys_kept_s=20),
    ):
        with pytest.raises(ServerShutdownError, match="the operation log is closed"):
            call()


def test_equal_bodies_have_one_digest() -> None:
    kind, body = save_of("good")
    assert body_digest(kind, pack(body)) == body_digest(kind, pack(body.model_copy()))


def test_entries_are_taken_in_the_order_of_their_append(log: OperationLog) -> None:
    for key in ("c", "a", "b"):
        append(log, key)
    taken = [run(log) for _ in range(3)]
    assert [stored.operation_id for stored in taken] == ["c", "a", "b"]
    assert log.take() is None


def test_an_entry_that_runs_is_the_one_to_take(log: OperationLog, fake_clock: FakeClock) -> None:
    append(log, "a")
    append(log, "b")
    first = log.take()
    fake_clock.advance(5)
    assert log.take() == first


def test_finish_can_take_the_next_entry(log: OperationLog, fake_clock: FakeClock) -> None:
    append(log, "a")
    append(log, "b")
    first = log.take()
    assert first is not None
    outcome = Outcome(operation_id="a", kind=first.kind, state=EntryState.DONE, finished_s=0)
    following = log.finish(first.sequence, outcome, take=True)
    assert following is not None
    assert following.operation_id == "b"
    assert following.started_s == fake_clock.now()


def test_only_a_running_entry_can_end(log: OperationLog) -> None:
    append(log, "a")
    stored = run(log)
    end(log, stored, EntryState.DONE, at_s=0)  # as it has ended: the answer may have been lost
    with pytest.raises(LoopsError, match="cannot become failed"):
        end(log, stored, EntryState.FAILED, at_s=0)


def test_a_sequence_is_never_used_again(log: OperationLog, fake_clock: FakeClock) -> None:
    append(log, "a")
    first = run(log, EntryState.FAILED, at_s=fake_clock.now())
    fake_clock.advance(100)
    log.expire(results_kept_s=10, keys_kept_s=20)
    assert append(log, "a") == NEW
    second = log.take()
    assert second is not None
    assert second.sequence > first.sequence


def test_results_expire_before_keys_do(log: OperationLog, fake_clock: FakeClock) -> None:
    append(log, "a")
    run(log, EntryState.FAILED, at_s=fake_clock.now())
    fake_clock.advance(15)
    log.expire(results_kept_s=10, keys_kept_s=20)
    found = log.find("a").result()
    assert found is not None
    assert (found.state, found.result) == (EntryState.FAILED, None)
    assert append(log, "a") == SAME


def test_what_waits_does_not_expire(log: OperationLog, fake_clock: FakeClock) -> None:
    append(log, "a")
    fake_clock.advance(1_000)
    log.expire(results_kept_s=10, keys_kept_s=20)
    assert append(log, "a") == SAME
    assert log.count_queued()[0] == 1


def test_in_memory_a_body_goes_with_the_end_and_the_rest_with_the_key(
    fake_clock: FakeClock,
) -> None:
    log = MemoryLog(clock=fake_clock)
    kind = OperationKind.SAVE_STATE
    tracemalloc.start()
    for n in range(40):
        append_body(log, kind, pack(SaveStateBody(name="x" * 100_000)), str(n))
        if n % 2:
            run(log, EntryState.FAILED, at_s=fake_clock.now())
        else:
            assert log.cancel(str(n)) is not None
    with_keys, _ = tracemalloc.get_traced_memory()
    fake_clock.advance(100)
    log.expire(results_kept_s=10, keys_kept_s=20)
    without_keys, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert with_keys < 400_000
    assert without_keys < 10_000


def test_results_that_memory_has_no_room_for_read_the_same(fake_clock: FakeClock) -> None:
    with closing(MemoryLog(clock=fake_clock, max_bytes=2_500)) as log:
        tracemalloc.start()
        for n in range(100):
            append(log, str(n))
            stored = log.take()
            assert stored is not None
            outcome = Outcome(
                operation_id=str(n),
                kind=stored.kind,
                state=EntryState.DONE,
                result=bytes([n]) * 10_000 if n == 50 else bytes([n]) * 1_000,
                finished_s=fake_clock.now() + n,
            )
            log.finish(stored.sequence, outcome, take=False)
        num_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert num_bytes < 100_000
        found = [log.find(str(n)).result() for n in range(100)]
        results = [None if outcome is None else outcome.result for outcome in found]
        assert results[49:52] == [bytes([49]) * 1_000, bytes([50]) * 10_000, bytes([51]) * 1_000]
        assert results[99] == bytes([99]) * 1_000
        fake_clock.advance(70)
        log.expire(results_kept_s=10, keys_kept_s=1_000)
        found = [log.find(str(n)).result() for n in (0, 60, 61, 99)]
        lengths = [outcome and outcome.result and len(outcome.result) for outcome in found]
        assert lengths == [None, None, 1_000, 1_000]
