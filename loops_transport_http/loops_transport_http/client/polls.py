"""Polls of operations that share what they can: one request asks for all that wait.

Where the service has no shared poll each operation is asked for by itself, in turns. There are
never more polls of an origin at a time than leave connections for other calls.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol, TypeAlias, TypeVar, final

import httpx

from loops_core.client import polling
from loops_core.errors import LoopsError
from loops_core.types.base import WireModel
from loops_core.types.operation import OperationStatus, PollBody, PollReply
from loops_core.types.routes import POLL, Call
from loops_transport_http.client.poll_board import PENDING, PollBoard, Turn, Waiter
from loops_transport_http.client.poll_slots import PollSlots

ReplyT = TypeVar("ReplyT", bound=WireModel)

Retrieve: TypeAlias = Call[OperationStatus]
Statuses: TypeAlias = Mapping[str, OperationStatus]


class Carry(Protocol):
    """Carries one call as it is, on the calling thread."""

    def __call__(self, call: Call[ReplyT], /) -> ReplyT:
        """Return the service's reply."""
        ...


class CarryAsync(Protocol):
    """Carries one call as it is, on the running event loop."""

    async def __call__(self, call: Call[ReplyT], /) -> ReplyT:
        """Return the service's reply."""
        ...


@final
class _Boards:
    """The boards of all trainers that were waited for, and the lock that keeps them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._by_trainer: dict[tuple[str | None, str | None], PollBoard] = {}
        self._slots: dict[str, PollSlots] = {}
        self._closed_by: LoopsError | None = None

    def join(self, call: Retrieve, waiter: Waiter, origin: str) -> PollBoard:
        key = (call.base_url, call.run_id)
        with self.lock:
            if self._closed_by is not None:
                raise self._closed_by.copy()
            board = self._by_trainer.get(key)
            if board is None:
                slots = self._slots.setdefault(origin, PollSlots())
                board = self._by_trainer[key] = PollBoard(slots)
            board.join(waiter)
            return board

    def close(self, error: LoopsError) -> None:
        with self.lock:
            self._closed_by = error
            for board in self._by_trainer.values():
                board.close(error)


@final
class ThreadPolls:
    """The polls of threads: each waits as long as its own call says."""

    def __init__(self, carry: Carry) -> None:
        """Let calls be carried by this."""
        self._carry = carry
        self._boards = _Boards()

    def wait(self, call: Retrieve, *, origin: str, shared: bool) -> OperationStatus:
        """Return the operation's status; `pending` at the end of the call's hold.

        Args:
            call: the poll of one operation.
            origin: scheme, host and port that it goes to; polls of one origin are bounded.
            shared: whether the service has a shared poll.

        Raises:
            LoopsError: what a poll of its own would have raised.
        """
        wake = threading.Event()
        waiter = Waiter(call.path_args["operation_id"], wake)
        start = time.monotonic()
        board = self._boards.join(call, waiter, origin)
        try:
            while not waiter.is_settled:
                waited_s = time.monotonic() - start
                left_s = call.hold_s - waited_s
                if left_s <= 0:
                    break
                with self._boards.lock:
                    wake.clear()
                    turn = board.turn(waiter, shared=shared, waited_s=waited_s, left_s=left_s)
                    is_settled = waiter.is_settled
                if turn.taken:
                    self._ask_for(board, call, turn, left_s)
                elif not is_settled:
                    wake.wait(_pause_s(turn, left_s))
        finally:
            with self._boards.lock:
                board.leave(waiter)
        return _outcome(waiter)

    def close(self, error: LoopsError) -> None:
        """Wake all that wait, with copies of the error."""
        self._boards.close(error)

    def _ask_for(self, board: PollBoard, call: Retrieve, turn: Turn, left_s: float) -> None:
        asking = _Asking(board, turn, hold_s=min(left_s, turn.hold_s))
        try:
            if len(turn.taken) > 1:
                asking.statuses = self._carry(_shared(call, asking)).operations
            else:
                asking.statuses = _named(asking, self._carry(_single(call, asking)))
        except LoopsError as error:
            asking.failure = error
        finally:
            with self._boards.lock:
                asking.end()


@final
class LoopPolls:
    """The polls of event loops; those of one loop share, and never block it."""

    def __init__(self, carry: CarryAsync) -> None:
        """Let calls be carried by this."""
        self._carry = carry
        self._lock = threading.Lock()
        self._boards: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Boards] = (
            weakref.WeakKeyDictionary()
        )

    async def wait(self, call: Retrieve, *, origin: str, shared: bool) -> OperationStatus:
        """Return the operation's status, as `ThreadPolls.wait` does."""
        with self._lock:
            boards = self._boards.setdefault(asyncio.get_running_loop(), _Boards())
        wake = asyncio.Event()
        waiter = Waiter(call.path_args["operation_id"], wake)
        start = time.monotonic()
        board = boards.join(call, waiter, origin)
        try:
            while not waiter.is_settled:
                waited_s = time.monotonic() - start
                left_s = call.hold_s - waited_s
                if left_s <= 0:
                    break
                wake.clear()
                turn = board.turn(waiter, shared=shared, waited_s=waited_s, left_s=left_s)
                if turn.taken:
                    await self._ask_for(board, call, turn, left_s)
                else:
                    await _wait(wake, _pause_s(turn, left_s))
        finally:
            board.leave(waiter)
        return _outcome(waiter)

    async def _ask_for(self, board: PollBoard, call: Retrieve, turn: Turn, left_s: float) -> None:
        asking = _Asking(board, turn, hold_s=min(left_s, turn.hold_s))
        try:
            if len(turn.taken) > 1:
                asking.statuses = (await self._carry(_shared(call, asking))).operations
            else:
                asking.statuses = _named(asking, await self._carry(_single(call, asking)))
        except LoopsError as error:
            asking.failure = error
        finally:
            asking.end()


@final
class _Asking:
    """One poll, from its turn to what came of it."""

    def __init__(self, board: PollBoard, turn: Turn, *, hold_s: float) -> None:
        self.turn = turn
        self.hold_s = hold_s
        self.statuses: Statuses | None = None
        self.failure: LoopsError | None = None
        self._board = board
        self._begun = time.monotonic()

    def end(self) -> None:
        """Tell the board; without statuses and failure the poll was interrupted."""
        if self.failure is not None:
            is_late = isinstance(self.failure.__cause__, httpx.TimeoutException)
            self._board.fail(self.turn, self.failure, for_all=not is_late)
        elif self.statuses is not None:
            held_s = time.monotonic() - self._begun
            is_early = polling.is_early(held_s=held_s, hold_s=self.hold_s)
            self._board.answer(self.turn, self.statuses, is_early=is_early)
        else:
            self._board.release(self.turn)


def _pause_s(turn: Turn, left_s: float) -> float:
    return left_s if turn.patience_s is None else min(left_s, turn.patience_s)


def _named(asking: _Asking, status: OperationStatus) -> Statuses:
    return {asking.turn.taken[0].operation_id: status}


def _single(call: Retrieve, asking: _Asking) -> Retrieve:
    """Return the poll of one operation; a shared one costs more, both sides."""
    path_args = {"operation_id": asking.turn.taken[0].operation_id}
    timeout_s = _timeout_s(call, asking.hold_s)
    return replace(call, path_args=path_args, hold_s=asking.hold_s, timeout_s=timeout_s)


def _shared(call: Retrieve, asking: _Asking) -> Call[PollReply]:
    """Return the poll of several operations."""
    return Call(
        route=POLL,
        base_url=call.base_url,
        body=PollBody(operation_ids=[waiter.operation_id for waiter in asking.turn.taken]),
        run_id=call.run_id,
        hold_s=asking.hold_s,
        timeout_s=_timeout_s(call, asking.hold_s),
    )


def _timeout_s(call: Retrieve, hold_s: float) -> float | None:
    """Return the call's bound for a hold of its own length."""
    return None if call.timeout_s is None else call.timeout_s - call.hold_s + hold_s


async def _wait(wake: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await wake.wait()
    except TimeoutError:
        return


def _outcome(waiter: Waiter) -> OperationStatus:
    if waiter.error is not None:
        raise waiter.error
    return waiter.status or PENDING
