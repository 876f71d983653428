"""What the board promises: who asks for whom, and that nobody is forgotten."""

from __future__ import annotations

import threading

from loops_core.errors import UnknownRequestError, UnreachableError, UsageError
from loops_core.types.operation import ErrorBody, OperationStatus
from loops_transport_http.client.poll_board import (
    GRACE_S,
    MOST_ASKED,
    MOST_HELD,
    PollBoard,
    Turn,
    Waiter,
)
from loops_transport_http.client.poll_slots import MOST_LONG, MOST_POLLS, SHORT_HOLD_S, PollSlots

DONE = OperationStatus(status="done")


def make_waiters(board: PollBoard, count: int, *, prefix: str = "op") -> list[Waiter]:
    waiters = [Waiter(f"{prefix}-{number}", threading.Event()) for number in range(count)]
    for waiter in waiters:
        board.join(waiter)
    return waiters


def make_board(slots: PollSlots | None = None) -> PollBoard:
    return PollBoard(slots or PollSlots())


def is_woken(waiter: Waiter) -> bool:
    assert isinstance(waiter.wake, threading.Event)
    return waiter.wake.is_set()


def look_up(
    board: PollBoard, waiter: Waiter, *, waited_s: float = GRACE_S, shared: bool = True
) -> Turn:
    return board.turn(waiter, shared=shared, waited_s=waited_s, left_s=10.0)


def ask(
    board: PollBoard, waiter: Waiter, *, waited_s: float = GRACE_S, shared: bool = True
) -> Turn:
    turn = look_up(board, waiter, waited_s=waited_s, shared=shared)
    assert waiter in turn.taken
    return turn


def fill(board: PollBoard) -> list[Turn]:
    """Let as many polls be held as may be."""
    turns: list[Turn] = []
    for number in range(MOST_HELD):
        (waiter,) = make_waiters(board, 1, prefix=f"held-{number}")
        turns.append(ask(board, waiter))
    return turns


def test_whoever_asks_asks_for_all_that_nobody_asks_for_yet() -> None:
    board = make_board()
    first, *others = make_waiters(board, 3)

    turn = ask(board, first)
    assert turn.taken == [first, *others]
    assert turn.hold_s == float("inf")
    assert look_up(board, others[0]) == Turn()


def test_who_comes_while_a_poll_is_under_way_waits_for_its_end_a_little() -> None:
    board = make_board()
    (first,) = make_waiters(board, 1)
    ask(board, first)
    second, third = make_waiters(board, 2, prefix="late")

    assert look_up(board, second, waited_s=0.0) == Turn(patience_s=GRACE_S)
    assert look_up(board, third) == Turn()  # the second asks for it
    assert ask(board, second).taken == [second, third]


def test_the_oldest_are_asked_for_first_up_to_a_bound() -> None:
    board = make_board()
    waiters = make_waiters(board, 2 * MOST_ASKED)

    assert ask(board, waiters[-1]).taken == [waiters[-1], *waiters[: MOST_ASKED - 1]]
    assert is_woken(waiters[MOST_ASKED - 1])  # to ask for the others


def test_who_finds_no_room_for_a_held_poll_looks_once_without_a_hold() -> None:
    board = make_board()
    held = fill(board)
    late, later = make_waiters(board, 2, prefix="late")

    look = ask(board, late)
    assert look.taken == [late, later]
    assert look.hold_s == 0
    board.answer(look, {later.operation_id: DONE})

    assert later.status is DONE
    assert not late.is_settled
    assert look_up(board, late) == Turn()  # it has looked
    board.answer(held[0], {held[0].taken[0].operation_id: DONE})
    assert late in ask(board, late).taken


def test_without_a_shared_poll_each_asks_for_itself_and_not_all_at_once() -> None:
    board = make_board()
    *asking, late = make_waiters(board, MOST_POLLS + 1)

    turns = [ask(board, waiter, shared=False) for waiter in asking]
    assert all(len(turn.taken) == 1 for turn in turns)
    assert look_up(board, late, shared=False) == Turn()
    board.answer(turns[0], {asking[0].operation_id: DONE})
    assert is_woken(late)
    assert ask(board, late, shared=False).taken == [late]


def test_what_has_ended_is_settled_and_the_rest_is_asked_for_again() -> None:
    board = make_board()
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


def test_where_a_service_does_not_hold_polls_all_hear_that_they_are_pending() -> None:
    board = make_board()
    first, second = make_waiters(board, 2)

    board.answer(ask(board, first), {}, is_early=True)

    for waiter in (first, second):
        assert is_woken(waiter)
        assert waiter.status is not None
        assert waiter.status.status == "pending"


def test_each_gets_an_error_of_its_own_when_a_poll_fails() -> None:
    board = make_board()
    first, second = make_waiters(board, 2)

    board.fail(ask(board, first), UnreachableError("no connection"))

    assert isinstance(first.error, UnreachableError)
    assert isinstance(second.error, UnreachableError)
    assert first.error is not second.error
    assert is_woken(second)


def test_an_unknown_operation_is_the_error_that_a_poll_of_its_own_raises() -> None:
    board = make_board()
    first, second = make_waiters(board, 2)
    body = ErrorBody(code="UnknownRequestError", message="never heard of it")

    turn = ask(board, first)
    unknown = OperationStatus(status="error", error="never heard of it", error_body=body)
    board.answer(turn, {second.operation_id: unknown})

    assert isinstance(second.error, UnknownRequestError)
    assert second.status is None


def test_when_the_next_to_ask_leaves_another_is_woken() -> None:
    board = make_board()
    (asking,) = make_waiters(board, 1)
    ask(board, asking)
    second, third = make_waiters(board, 2, prefix="late")

    board.leave(second)

    assert is_woken(third)


def test_the_polls_of_all_trainers_share_the_slots_of_their_origin() -> None:
    slots = PollSlots()
    one, other = make_board(slots), make_board(slots)
    turns = [ask(one, waiter, shared=False) for waiter in make_waiters(one, MOST_POLLS)]
    (late,) = make_waiters(other, 1)

    assert look_up(other, late, shared=False) == Turn()
    one.answer(turns[0], {})
    assert is_woken(late)
    assert ask(other, late, shared=False).taken == [late]


def test_many_polls_are_held_for_a_short_time_so_that_the_turn_goes_round() -> None:
    board = make_board()
    waiters = make_waiters(board, MOST_POLLS + 1)
    turns = [ask(board, waiter, shared=False) for waiter in waiters[:-1]]

    assert {turn.hold_s for turn in turns[:MOST_LONG]} == {float("inf")}
    assert {turn.hold_s for turn in turns[MOST_LONG:]} == {SHORT_HOLD_S}
    board.answer(turns[-1], {})  # the hold is over
    assert look_up(board, waiters[-2], shared=False) == Turn()  # at the end of the queue now
    assert ask(board, waiters[-1], shared=False).taken == [waiters[-1]]


def test_who_left_without_a_turn_comes_back_ahead_of_the_others() -> None:
    board = make_board()
    *asking, unlucky, other = make_waiters(board, MOST_POLLS + 2)
    turns = [ask(board, waiter, shared=False) for waiter in asking]
    board.leave(unlucky)

    again = Waiter(unlucky.operation_id, threading.Event())
    board.join(again)
    board.answer(turns[0], {})

    assert look_up(board, other, shared=False) == Turn()
    assert ask(board, again, shared=False).taken == [again]


def test_only_the_one_that_asked_fails_when_its_own_time_is_over() -> None:
    board = make_board()
    first, second = make_waiters(board, 2)

    board.fail(ask(board, first), UnreachableError("too late"), for_all=False)

    assert first.is_settled
    assert not second.is_settled
    assert ask(board, second).taken == [second]


def test_closing_lets_everybody_go_at_once() -> None:
    board = make_board()
    waiters = make_waiters(board, 3)
    ask(board, waiters[0])

    board.close(UsageError("the client is closed"))

    assert all(is_woken(waiter) and waiter.is_settled for waiter in waiters)
