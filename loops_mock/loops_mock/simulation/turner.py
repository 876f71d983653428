"""Turning the worker's loops on virtual time: each step takes as long as the world says."""

from __future__ import annotations

import asyncio
import random
import zlib
from typing import final

from loops_core.worker.entries import Outcome, StoredEntry
from loops_core.worker.turning import Drawing, Idle, Turns
from loops_core.worker.waits import Doorbell
from loops_mock.simulation.durations import Durations
from loops_mock.simulation.loop import VirtualLoop
from loops_mock.simulation.trace import Trace


@final
class WorldTurner:
    """A `Turner` without threads: steps are callbacks of the loop.

    Attributes:
        writing_share: the part of an operation's time that passes when it has run, and before its
            outcome is written; a worker that dies there runs it again.
    """

    def __init__(
        self, loop: VirtualLoop, durations: Durations, trace: Trace, rng: random.Random
    ) -> None:
        """Turn loops on `loop`."""
        self.loop = loop
        self.trace = trace
        self.writing_share = 0.0
        self._durations = durations
        self._rng = rng
        self._turnings: list[WorldTurning] = []
        self._slow = (1.0, 0.0)

    @property
    def is_inline(self) -> bool:
        """Return True."""
        return True

    def start(self, turns: Turns, bell: Doorbell, *, name: str) -> WorldTurning:
        """Begin to turn a loop; its first step comes with the loop's next turn."""
        turning = WorldTurning(turns, bell, self, name)
        self._turnings = [other for other in self._turnings if other.is_alive()]
        self._turnings.append(turning)
        return turning

    def slow_down(self, factor: float, *, seconds: float) -> None:
        """Let samplers take `factor` times as long for a while."""
        self._slow = (factor, self.loop.time() + seconds)

    def kill(self) -> None:
        """End all loops where they stand, as a process that dies does."""
        turnings, self._turnings = self._turnings, []
        for turning in turnings:
            turning.kill()

    def seconds_of(self, step: StoredEntry | Outcome | Drawing) -> float:
        """Return how long a step takes from now, and note it."""
        now_s = self.loop.time()
        if isinstance(step, StoredEntry):
            self.trace.add(now_s, "run", step.kind, step.operation_id)
            mean_s = self._durations.of(step.kind) * (1.0 - self.writing_share)
        elif isinstance(step, Outcome):
            code = zlib.crc32(step.result or b"")
            self.trace.add(now_s, "end", step.kind, step.operation_id, step.state.value, code)
            mean_s = self._durations.of(step.kind) * self.writing_share
        else:
            factor, until_s = self._slow
            mean_s = self._durations.token_s * (factor if now_s < until_s else 1.0)
        return self._durations.draw(mean_s, self._rng) if mean_s else 0.0


@final
class WorldTurning:
    """A loop that is turned by callbacks."""

    def __init__(self, turns: Turns, bell: Doorbell, turner: WorldTurner, name: str) -> None:
        self._turns = turns
        self._bell = bell
        self._turner = turner
        self._loop = turner.loop
        self._name = name
        self._is_alive = True
        self._is_idle = False
        self._next: asyncio.Handle | None = self._loop.call_soon(self._step)
        bell.listen(self._rung)

    def is_alive(self) -> bool:
        """Return whether it has not ended."""
        return self._is_alive

    def join(self, timeout_s: float, /) -> None:
        """Let it come to its end at once; it was told to end, and takes no time for it."""
        del timeout_s
        while self._is_alive and self._advance() is not None:
            self._bell.answer()

    def kill(self) -> None:
        """End it where it stands."""
        self._end()
        self._turns.close()

    def _end(self) -> None:
        self._is_alive = False
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _rung(self) -> None:
        if self._is_idle:
            if self._next is not None:
                self._next.cancel()
            self._next = self._loop.call_soon(self._step)

    def _step(self) -> None:
        self._next = None
        if self._is_idle:
            self._is_idle = False
            self._bell.answer()
        while (step := self._advance()) is not None:
            if isinstance(step, Idle):
                if self._bell.has_rung:
                    self._bell.answer()
                    continue
                self._is_idle = True
                if step.timeout_s is not None:
                    self._next = self._loop.call_later(step.timeout_s, self._step)
                return
            seconds = self._turner.seconds_of(step)
            if seconds > 0.0 and not self._loop.skip(seconds):
                self._next = self._loop.call_later(seconds, self._step)
                return

    def _advance(self) -> Idle | StoredEntry | Outcome | Drawing | None:
        """Return the next step; None at the loop's end."""
        try:
            return next(self._turns)
        except StopIteration:
            self._end()
        except BaseException as error:  # noqa: BLE001  # what ends a thread ends the world
            self._end()
            self._loop.fail(error)
        return None
