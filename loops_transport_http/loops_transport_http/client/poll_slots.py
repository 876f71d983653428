"""How many polls of one origin may be under way, and whose turn it is when there is no room."""

from __future__ import annotations

from typing import Final, Protocol, final

MOST_POLLS: Final = 64
"""Most polls of one origin under way: other calls need connections, too."""

MOST_LONG: Final = 32
"""From so many on polls are held for a short time only, so that the turn goes round."""

SHORT_HOLD_S: Final = 1.0


class Board(Protocol):
    """Somebody who wants a slot."""

    def wake_next(self) -> None:
        """Wake the waiter that will take a slot, if there is one."""
        ...


@final
class PollSlots:
    """The slots of one origin, handed round among its trainers; the caller keeps threads apart."""

    def __init__(self) -> None:
        """Start with all slots free."""
        self._num_taken = 0
        self._queue: dict[Board, None] = {}

    def take(self, board: Board) -> bool:
        """Take a slot and return True; else queue: the board is woken when one is free."""
        if self._num_taken >= MOST_POLLS:
            self._queue[board] = None
            return False
        self._num_taken += 1
        return True

    def give(self) -> None:
        """Give a slot back, and wake those who queue: they take it, or queue again, in order."""
        self._num_taken -= 1
        queue, self._queue = self._queue, {}
        for board in queue:
            board.wake_next()

    @property
    def longest_hold_s(self) -> float:
        """Return how long a poll that was just given a slot may be held, in seconds."""
        return SHORT_HOLD_S if self._num_taken > MOST_LONG else float("inf")
