"""Polls of operations that share what they can: one request asks for all that wait.

Where the service has no shared poll each operation is asked for by itself, and no more of them at a
time than leave connections for other calls.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias, TypeVar, final

from loops_core.errors import LoopsError
from loops_core.types.base import WireModel
from loops_core.types.operation import OperationStatus, PollBody, PollReply
from loops_core.types.routes import POLL, Call
from loops_transport_http.client.poll_board import PENDING, PollBoard, Turn, Waiter

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
    """The boards of the trainers that somebody waits for, and the lock that keeps them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._by_trainer: dict[tuple[str | None, str | None], PollBoard] = {}

    def join(self, call: Retrieve, waiter: Waiter) -> PollBoard:
        with self.lock:
            board = self._by_trainer.setdefault((call.base_url, call.run_id), PollBoard())
            board.join(waiter)
            return board

    def leave(self, call: Retrieve, waiter: Waiter) -> None:
        key = (call.base_url, call.run_id)
        with self.lock:
            board = self._by_trainer[key]
            board.leave(waiter)
            if board.is_empty:
                del self._by_trainer[key]


@final
class ThreadPolls:
    """The polls of threads: each waits as long as its own call says."""

    def __init__(self, carry: Carry) -> None:
        """Let calls be carried by this."""
        self._carry = carry
        self._boards = _Boards()

    def wait(self, call: Retrieve, *, shared: bool) -> OperationStatus:
        """Return the operation's status; `pending` at the end of the call's hold.

        Raises:
            LoopsError: what a poll of its own would have raised.
        """
        wake = threading.Event()
        waiter = Waiter(call.path_args["operation_id"], wake)
        start = time.monotonic()
        board = self._boards.join(call, waiter)
        try:
            while not waiter.is_settled:
                waited_s = time.monotonic() - start
                left_s = call.hold_s - waited_s
                if left_s <= 0:
                    break
                with self._boards.lock:
                    wake.clear()
                    turn = board.turn(waiter, shared=shared, waited_s=waited_s)
                    is_settled = waiter.is_settled
                if turn.taken:
                    self._ask_for(board, call, turn, left_s)
                elif not is_settled:
                    wake.wait(_pause_s(turn, left_s))
        finally:
            self._boards.leave(call, waiter)
        if waiter.was_asked_for:
            return _outcome(waiter)
        return self._carry(_single(call, waiter, 0.0))

    def _ask_for(self, board: PollBoard, call: Retrieve, turn: Turn, left_s: float) -> None:
        statuses: Statuses | None = None
        failure: LoopsError | None = None
        taken, hold_s = turn.taken, left_s if turn.is_held else 0.0
        try:
            if len(taken) > 1:
                statuses = self._carry(_shared(call, taken, hold_s)).operations
            else:
                status = self._carry(_single(call, taken[0], hold_s))
                statuses = {taken[0].operation_id: status}
        except LoopsError as error:
            failure = error
        finally:
            with self._boards.lock:
                _end(board, turn, statuses, failure)


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

    async def wait(self, call: Retrieve, *, shared: bool) -> OperationStatus:
        """Return the operation's status, as `ThreadPolls.wait` does."""
        with self._lock:
            boards = self._boards.setdefault(asyncio.get_running_loop(), _Boards())
        wake = asyncio.Event()
        waiter = Waiter(call.path_args["operation_id"], wake)
        start = time.monotonic()
        board = boards.join(call, waiter)
        try:
            while not waiter.is_settled:
                waited_s = time.monotonic() - start
                left_s = call.hold_s - waited_s
                if left_s <= 0:
                    break
                wake.clear()
                turn = board.turn(waiter, shared=shared, waited_s=waited_s)
                if turn.taken:
                    await self._ask_for(board, call, turn, left_s)
                else:
                    await _wait(wake, _pause_s(turn, left_s))
        finally:
            boards.leave(call, waiter)
        if waiter.was_asked_for:
            return _outcome(waiter)
        return await self._carry(_single(call, waiter, 0.0))

    async def _ask_for(self, board: PollBoard, call: Retrieve, turn: Turn, left_s: float) -> None:
        statuses: Statuses | None = None
        failure: LoopsError | None = None
        taken, hold_s = turn.taken, left_s if turn.is_held else 0.0
        try:
            if len(taken) > 1:
                statuses = (await self._carry(_shared(call, taken, hold_s))).operations
            else:
                status = await self._carry(_single(call, taken[0], hold_s))
                statuses = {taken[0].operation_id: status}
        except LoopsError as error:
            failure = error
        finally:
            _end(board, turn, statuses, failure)


def _pause_s(turn: Turn, left_s: float) -> float:
    return left_s if turn.patience_s is None else min(left_s, turn.patience_s)


def _end(
    board: PollBoard, turn: Turn, statuses: Statuses | None, failure: LoopsError | None
) -> None:
    """Give what came of a poll to those it asked for; neither = it was interrupted."""
    if failure is not None:
        board.fail(turn, failure)
    elif statuses is not None:
        board.answer(turn, statuses)
    else:
        board.release(turn)


def _single(call: Retrieve, waiter: Waiter, hold_s: float) -> Retrieve:
    """Return the poll of one operation; a shared one costs more, both sides."""
    path_args = {"operation_id": waiter.operation_id}
    return replace(call, path_args=path_args, hold_s=hold_s, timeout_s=_timeout_s(call, hold_s))


def _shared(call: Retrieve, taken: Sequence[Waiter], hold_s: float) -> Call[PollReply]:
    """Return the poll of several operations."""
    return Call(
        route=POLL,
        base_url=call.base_url,
        body=PollBody(operation_ids=[waiter.operation_id for waiter in taken]),
        run_id=call.run_id,
        hold_s=hold_s,
        timeout_s=_timeout_s(call, hold_s),
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
