"""Who of those that wait for operations of one trainer asks for whom; decisions only, no waiting.

One shared poll asks for many operations. Whoever waits may become the one that asks: for itself and
for all others that no poll asks for yet. What ends first was submitted first, so the oldest are
asked for first. Held polls are few; who finds no room for one more looks once without a hold, so
that nobody waits behind something slow for what has ended already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol, final

from loops_core.errors import LoopsError, UnknownRequestError, error_from_body
from loops_core.types.operation import OperationStatus

MOST_ASKED: Final = 256
"""Most operations of one poll: a trainer ends them in order, so more would be asked in vain."""

MOST_POLLS: Final = 4
"""Most held shared polls of one trainer under way."""

MOST_SINGLE: Final = 64
"""Most polls of single operations under way, where the service has no shared poll."""

GRACE_S: Final = 0.02
"""How long who comes while a poll is under way waits before there is one poll more."""

PENDING: Final = OperationStatus(status="pending")


class Wake(Protocol):
    """Something that a waiter waits for: an event of threads, or of an event loop."""

    def set(self) -> None:
        """Wake the waiter."""
        ...


@final
class Waiter:
    """Somebody who waits for one operation.

    Attributes:
        operation_id: the operation.
        wake: is set when there is news: an outcome, or that it is this waiter's turn to ask.
        status: how the operation ended, once it is known; or that it is pending.
        error: why it could not be asked for.
        was_asked_for: whether a poll asks for it, or one did.
    """

    __slots__ = ("error", "operation_id", "status", "wake", "was_asked_for")

    def __init__(self, operation_id: str, wake: Wake) -> None:
        """Wait for this operation, and be woken by this."""
        self.operation_id = operation_id
        self.wake = wake
        self.status: OperationStatus | None = None
        self.error: LoopsError | None = None
        self.was_asked_for = False

    @property
    def is_settled(self) -> bool:
        """Tell whether there is an outcome."""
        return self.status is not None or self.error is not None


@dataclass(frozen=True, slots=True)
class Turn:
    """What a waiter should do now.

    Attributes:
        taken: for whom it should ask; empty = it should wait.
        is_held: whether the poll is held until something ends.
        patience_s: if it should wait: after how many seconds to look again; None = it is woken.
    """

    taken: Sequence[Waiter] = ()
    is_held: bool = True
    patience_s: float | None = None


@final
class PollBoard:
    """Those who wait for operations of one trainer; the caller keeps threads apart.

    Every turn that has somebody taken is followed by one `answer`, `fail` or `release` of it.
    """

    def __init__(self) -> None:
        """Start with nobody."""
        self._waiters: dict[Waiter, None] = {}
        self._asked: set[Waiter] = set()
        self._num_held = 0
        self._is_looking = False
        self._num_present = 0

    @property
    def is_empty(self) -> bool:
        """Tell whether everybody has left."""
        return self._num_present == 0

    def join(self, waiter: Waiter) -> None:
        """Let somebody wait."""
        self._num_present += 1
        self._waiters[waiter] = None

    def leave(self, waiter: Waiter) -> None:
        """Let somebody go, and somebody else ask in their place."""
        self._num_present -= 1
        self._waiters.pop(waiter, None)
        self._asked.discard(waiter)
        self._wake_next()

    def turn(self, waiter: Waiter, *, shared: bool, waited_s: float) -> Turn:
        """Return what this waiter should do.

        Where there is a shared poll, who comes while one is under way waits for its end first, up
        to `GRACE_S` seconds, and those ask who have waited for longest.

        Args:
            waiter: one that has joined.
            shared: whether the service has a shared poll.
            waited_s: how long it has waited.
        """
        if waiter.is_settled or waiter in self._asked:
            return Turn()
        if not shared:
            return self._hold([waiter]) if self._num_held < MOST_SINGLE else Turn()
        if self._num_held == 0:
            return self._hold(self._with_others(waiter, self._unasked()))
        is_next = next(self._unasked(), None) is waiter
        is_new = next(self._unseen(), None) is waiter
        if not (is_next or is_new):
            return Turn()
        if waited_s < GRACE_S:
            return Turn(patience_s=GRACE_S - waited_s)
        if self._num_held < MOST_POLLS:
            return self._hold(self._with_others(waiter, self._unasked()))
        if is_new and not self._is_looking:
            self._is_looking = True
            return self._take(self._with_others(waiter, self._unseen()), is_held=False)
        return Turn()

    def answer(self, turn: Turn, statuses: Mapping[str, OperationStatus]) -> None:
        """Give those who were asked for what came of it; those that still wait can be taken again.

        Where nothing has ended at the end of a hold, or the service does not hold polls, all hear
        that their operations are pending, and decide themselves when to ask again.
        """
        ended = {i: status for i, status in statuses.items() if status.status != "pending"}
        for waiter in turn.taken:
            status = ended.get(waiter.operation_id)
            body = None if status is None else status.error_body
            if body is not None and body.code == UnknownRequestError.__name__:
                waiter.error = error_from_body(body)  # as a poll of its own would have raised
            else:
                waiter.status = PENDING if turn.is_held and not ended else status
        self.release(turn)

    def fail(self, turn: Turn, error: LoopsError) -> None:
        """Give those who were asked for the error, a copy for each."""
        for waiter in turn.taken:
            waiter.error = error.copy()
        self.release(turn)

    def release(self, turn: Turn) -> None:
        """Let those who were asked for be taken again, unless they are settled by now."""
        if turn.is_held:
            self._num_held -= 1
        else:
            self._is_looking = False
        for waiter in turn.taken:
            self._asked.discard(waiter)
            if waiter.is_settled:
                self._waiters.pop(waiter, None)
                waiter.wake.set()
        self._wake_next()

    def _hold(self, taken: list[Waiter]) -> Turn:
        self._num_held += 1
        return self._take(taken, is_held=True)

    def _take(self, taken: list[Waiter], *, is_held: bool) -> Turn:
        self._asked.update(taken)
        for waiter in taken:
            waiter.was_asked_for = True
        self._wake_next()
        return Turn(taken, is_held=is_held)

    def _with_others(self, waiter: Waiter, candidates: Iterator[Waiter]) -> list[Waiter]:
        others = (other for other in candidates if other is not waiter)
        return [waiter, *islice(others, MOST_ASKED - 1)]

    def _wake_next(self) -> None:
        for waiter in (next(self._unasked(), None), next(self._unseen(), None)):
            if waiter is not None:
                waiter.wake.set()

    def _unasked(self) -> Iterator[Waiter]:
        return (waiter for waiter in self._waiters if waiter not in self._asked)

    def _unseen(self) -> Iterator[Waiter]:
        return (waiter for waiter in self._unasked() if not waiter.was_asked_for)
