"""What the board promises: who asks for whom, and that nobody is forgotten."""

from __future__ import annotations

import threading

from loops_core.errors import UnknownRequestError, UnreachableError
from loops_core.types.operation import ErrorBody, OperationStatus
from loops_transport_http.client.poll_board import (
    GRACE_S,
    MOST_ASKED,
    MOST_POLLS,
    MOST_SINGLE,
    PollBoard,
    Turn,
    Waiter,
)

DONE = OperationStatus(status="done")


def make_waiters(board: PollBoard, count: int, *, prefix: str = "op") -> list[Waiter]:
    waiters = [Waiter(f"{prefix}-{number}", threading.Event()) for number in range(count)]
    for waiter in waiters:
        board.join(waiter)
    return waiters


def is_woken(waiter: Waiter) -> bool:
    assert isinstance(waiter.wake, threading.Event)
    return waiter.wake.is_set()


def ask(board: PollBoard, waiter: Waiter, *, waited_s: float = 0.0, shared: bool = True) -> Turn:
    turn = board.turn(waiter, shared=shared, waited_s=waited_s)
    assert waiter in turn.taken
    return turn


def fill(board: PollBoard) -> list[Turn]:
    """Let as many polls be held as may be."""
    turns: list[Turn] = []
    for number in range(MOST_POLLS):
        (waiter,) = make_waiters(board, 1, prefix=f"held-{number}")
        turns.append(ask(board, waiter, waited_s=GRACE_S))
    return turns


def test_whoever_asks_asks_for_all_that_nobody_asks_for_yet() -> None:
    board = PollBoard()
    first, *others = make_waiters(board, 3)

    turn = ask(board, first)
    assert turn.taken == [first, *others]
    assert turn.is_held
    assert board.turn(others[0], shared=True, waited_s=GRACE_S) == Turn()


def test_who_comes_while_a_poll_is_under_way_waits_for_its_end_a_little() -> None:
    board = PollBoard()
    (first,) = make_waiters(board, 1)
    ask(board, first)
    second, third = make_waiters(board, 2, prefix="late")

    assert board.turn(second, shared=True, waited_s=0.0) == Turn(patience_s=GRACE_S)
    assert board.turn(third, shared=True, waited_s=GRACE_S) == Turn()  # the second asks for it
    assert ask(board, second, waited_s=GRACE_S).taken == [second, third]


def test_the_oldest_are_asked_for_first_up_to_a_bound() -> None:
    board = PollBoard()
    waiters = make_waiters(board, 2 * MOST_ASKED)

    assert ask(board, waiters[-1]).taken == [waiters[-1], *waiters[: MOST_ASKED - 1]]
    assert is_woken(waiters[MOST_ASKED - 1])  # to ask for the others


def test_who_finds_no_room_for_a_held_poll_looks_once_without_a_hold() -> None:
    board = PollBoard()
    held = fill(board)
    late, later = make_waiters(board, 2, prefix="late")

    look = ask(board, late, waited_s=GRACE_S)
    assert look.taken == [late, later]
    assert not look.is_held
    board.answer(look, {later.operation_id: DONE})

    assert later.status is DONE
    assert not late.is_settled
    assert board.turn(late, shared=True, waited_s=GRACE_S) == Turn()  # it has looked
    board.answer(held[0], {held[0].taken[0].operation_id: DONE})
    assert late in ask(board, late, waited_s=GRACE_S).taken


def test_without_a_shared_poll_each_asks_for_itself_and_not_all_at_once() -> None:
    board = PollBoard()
    *asking, late = make_waiters(board, MOST_SINGLE + 1)

    turns = [ask(board, waiter, shared=False) for waiter in asking]
    assert all(len(turn.taken) == 1 for turn in turns)
    assert board.turn(late, shared=False, waited_s=GRACE_S) == Turn()
    board.answer(turns[0], {asking[0].operation_id: DONE})
    assert is_woken(late)
    assert ask(board, late, shared=False).taken == [late]


def test_what_has_ended_is_settled_and_the_rest_is_asked_for_again() -> None:
    board = PollBoard()
    ended, pending, running = make_waiters(board, 3)
    turn = ask(board, ended)

    pending_status = OperationStatus(status="pending")
    board.answer(turn, {ended.operation_id: DONE, running.operation_id: pending_status})

    assert ended.status is DONE
    assert is_woken(ended)
    assert not pending.is_settled
    assert not running.is_settled
    assert is_woken(pending)  # the oldest of those that wait: it is its turn
    assert ask(board, pending).taken == [pending, running]


def test_where_nothing_has_ended_all_hear_that_they_are_pending() -> None:
    board = PollBoard()
    first, second = make_waiters(board, 2)

    board.answer(ask(board, first), {})

    for waiter in (first, second):
        assert is_woken(waiter)
        assert waiter.status is not None
        assert waiter.status.status == "pending"


def test_each_gets_an_error_of_its_own_when_a_poll_fails() -> None:
    board = PollBoard()
    first, second = make_waiters(board, 2)

    board.fail(ask(board, first), UnreachableError("no connection"))

    assert isinstance(first.error, UnreachableError)
    assert isinstance(second.error, UnreachableError)
    assert first.error is not second.error
    assert is_woken(second)


def test_an_unknown_operation_is_the_error_that_a_poll_of_its_own_raises() -> None:
    board = PollBoard()
    first, second = make_waiters(board, 2)
    body = ErrorBody(code="UnknownRequestError", message="never heard of it")

    turn = ask(board, first)
    unknown = OperationStatus(status="error", error="never heard of it", error_body=body)
    board.answer(turn, {second.operation_id: unknown})

    assert isinstance(second.error, UnknownRequestError)
    assert second.status is None


def test_when_the_next_to_ask_leaves_another_is_woken() -> None:
    board = PollBoard()
    (asking,) = make_waiters(board, 1)
    ask(board, asking)
    second, third = make_waiters(board, 2, prefix="late")

    board.leave(second)

    assert is_woken(third)
    assert not board.is_empty
    board.leave(third)
    board.leave(asking)
    assert board.is_empty
