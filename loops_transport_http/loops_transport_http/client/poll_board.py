"""Who of those that wait for operations of one trainer asks for whom; decisions only, no waiting.

One shared poll asks for many operations. Whoever waits may become the one that asks: for itself and
for all others that no poll asks for yet. Held polls are few; who finds no room for one more looks
once without a hold, so that nobody waits behind something slow for what has ended already. Without
a shared poll each waiter asks for itself, in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol, final

from loops_core.errors import LoopsError, UnknownRequestError, error_from_body
from loops_core.types.operation import OperationStatus
from loops_transport_http.client.poll_slots import PollSlots

MOST_ASKED: Final = 256
"""Most operations of one poll: a trainer ends them in order, so more would be asked in vain."""

MOST_HELD: Final = 4
"""Most held shared polls of one trainer under way."""

GRACE_S: Final = 0.02
"""How long who comes while a poll is under way waits before there is one poll more."""

PENDING: Final = OperationStatus(status="pending")

_MOST_PLACES: Final = 10_000


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
        taken: for whom it should ask, itself first; empty = it should wait.
        hold_s: the longest that the poll may be held; 0 = it is a look.
        patience_s: if it should wait: after how many seconds to look again; None = it is woken.
    """

    taken: Sequence[Waiter] = ()
    hold_s: float = 0.0
    patience_s: float | None = None


@final
class PollBoard:
    """Those who wait for operations of one trainer; the caller keeps threads apart.

    Every turn that has somebody taken is followed by one `answer`, `fail` or `release` of it.
    """

    def __init__(self, slots: PollSlots) -> None:
        """Start with nobody; every poll takes one of the slots."""
        self._slots = slots
        self._waiters: dict[Waiter, None] = {}
        self._returned: dict[Waiter, None] = {}
        self._places: dict[str, None] = {}
        self._asked: set[Waiter] = set()
        self._num_held = 0
        self._is_looking = False

    def join(self, waiter: Waiter) -> None:
        """Let somebody wait: ahead of all that are new, if it left without having had a turn."""
        had_no_turn = waiter.operation_id in self._places
        self._places.pop(waiter.operation_id, None)
        (self._returned if had_no_turn else self._waiters)[waiter] = None

    def leave(self, waiter: Waiter) -> None:
        """Let somebody go, and somebody else ask in their place."""
        self._drop(waiter)
        self._asked.discard(waiter)
        if not (waiter.is_settled or waiter.was_asked_for):
            self._places[waiter.operation_id] = None
            if len(self._places) > _MOST_PLACES:
                del self._places[next(iter(self._places))]
        self.wake_next()

    def close(self, error: LoopsError) -> None:
        """Let everybody go with a copy of the error."""
        for waiter in self._in_order():
            waiter.error = error.copy()
            waiter.wake.set()

    def turn(self, waiter: Waiter, *, shared: bool, waited_s: float, left_s: float) -> Turn:
        """Return what this waiter should do.

        Where there is a shared poll, who comes while one is under way waits for its end first, up
        to `GRACE_S` seconds, and those ask who have waited for longest.

        Args:
            waiter: one that has joined.
            shared: whether the service has a shared poll.
            waited_s: how long it has waited.
            left_s: how much longer it will wait.
        """
        if waiter.is_settled or waiter in self._asked:
            return Turn()
        is_next = next(self._unasked(), None) is waiter
        if not shared:
            return self._hold([waiter]) if is_next else Turn()
        if self._num_held == 0:
            return self._hold(self._with_others(waiter, self._unasked()))
        is_new = next(self._unseen(), None) is waiter
        if not (is_next or is_new):
            return Turn()
        if waited_s < GRACE_S < left_s:
            return Turn(patience_s=GRACE_S - waited_s)
        if self._num_held < MOST_HELD:
            return self._hold(self._with_others(waiter, self._unasked()))
        return self._look(waiter) if is_new and not self._is_looking else Turn()

    def answer(
        self, turn: Turn, statuses: Mapping[str, OperationStatus], *, is_early: bool = False
    ) -> None:
        """Give those who were asked for what came of it; those that still wait can be taken again.

        Args:
            turn: the turn.
            statuses: what is known by operation; those that have not ended may be missing.
            is_early: whether the answer came before the end of the hold. If nothing has ended the
                service does not hold polls, and all hear that their operations are pending: they
                decide themselves when to ask again.
        """
        ended = {i: status for i, status in statuses.items() if status.status != "pending"}
        for waiter in turn.taken:
            status = ended.get(waiter.operation_id)
            body = None if status is None else status.error_body
            if body is not None and body.code == UnknownRequestError.__name__:
                waiter.error = error_from_body(body)  # as a poll of its own would have raised
            else:
                waiter.status = PENDING if is_early and turn.hold_s and not ended else status
            if not ended and turn.hold_s and self._drop(waiter):
                self._waiters[waiter] = None  # at the end: the turn goes round
        self.release(turn)

    def fail(self, turn: Turn, error: LoopsError, *, for_all: bool = True) -> None:
        """Give those who were asked for the error, a copy for each; or only the one that asked."""
        for waiter in turn.taken if for_all else turn.taken[:1]:
            waiter.error = error.copy()
        self.release(turn)

    def release(self, turn: Turn) -> None:
        """Let those who were asked for be taken again, unless they are settled by now."""
        if turn.hold_s:
            self._num_held -= 1
        else:
            self._is_looking = False
        for waiter in turn.taken:
            self._asked.discard(waiter)
            if waiter.is_settled:
                self._drop(waiter)
                waiter.wake.set()
        self.wake_next()
        self._slots.give()

    def wake_next(self) -> None:
        """Wake the oldest of those that nobody asks for, and of those that nobody ever did."""
        for waiter in (next(self._unasked(), None), next(self._unseen(), None)):
            if waiter is not None:
                waiter.wake.set()

    def _hold(self, taken: list[Waiter]) -> Turn:
        if not self._slots.take(self):
            return Turn()
        self._num_held += 1
        return self._take(taken, hold_s=self._slots.longest_hold_s)

    def _look(self, waiter: Waiter) -> Turn:
        if not self._slots.take(self):
            return Turn()
        self._is_looking = True
        return self._take(self._with_others(waiter, self._unseen()), hold_s=0.0)

    def _take(self, taken: list[Waiter], *, hold_s: float) -> Turn:
        self._asked.update(taken)
        for waiter in taken:
            waiter.was_asked_for = True
        self.wake_next()
        return Turn(taken, hold_s=hold_s)

    def _with_others(self, waiter: Waiter, candidates: Iterator[Waiter]) -> list[Waiter]:
        others = (other for other in candidates if other is not waiter)
        return [waiter, *islice(others, MOST_ASKED - 1)]

    def _drop(self, waiter: Waiter) -> bool:
        """Forget the waiter; tell whether it was there."""
        for waiters in (self._waiters, self._returned):
            if waiter in waiters:
                del waiters[waiter]
                return True
        return False

    def _in_order(self) -> Iterator[Waiter]:
        yield from self._returned
        yield from self._waiters

    def _unasked(self) -> Iterator[Waiter]:
        return (waiter for waiter in self._in_order() if waiter not in self._asked)

    def _unseen(self) -> Iterator[Waiter]:
        return (waiter for waiter in self._unasked() if not waiter.was_asked_for)
