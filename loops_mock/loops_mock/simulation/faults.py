"""Fault plans: which calls meet which faults, as a value that is printed, pasted and seeded."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self, final

from loops_core.errors import UsageError
from loops_mock.simulation.kinds import ANY as ANY
from loops_mock.simulation.kinds import MESSAGE_FAULTS as MESSAGE_FAULTS
from loops_mock.simulation.kinds import STATUSES as STATUSES
from loops_mock.simulation.kinds import WORLD_FAULTS as WORLD_FAULTS
from loops_mock.simulation.kinds import Delay as Delay
from loops_mock.simulation.kinds import DiskFull as DiskFull
from loops_mock.simulation.kinds import DropRequest as DropRequest
from loops_mock.simulation.kinds import Duplicate as Duplicate
from loops_mock.simulation.kinds import EvictResults as EvictResults
from loops_mock.simulation.kinds import Fault as Fault
from loops_mock.simulation.kinds import JumpClock as JumpClock
from loops_mock.simulation.kinds import LoseAnswer as LoseAnswer
from loops_mock.simulation.kinds import MessageFault as MessageFault
from loops_mock.simulation.kinds import Preempt as Preempt
from loops_mock.simulation.kinds import Reorder as Reorder
from loops_mock.simulation.kinds import Restart as Restart
from loops_mock.simulation.kinds import SlowSampler as SlowSampler
from loops_mock.simulation.kinds import Status as Status
from loops_mock.simulation.kinds import Truncate as Truncate
from loops_mock.simulation.kinds import WithholdVersion as WithholdVersion
from loops_mock.simulation.kinds import WorldFault as WorldFault

TRAINING_ROUTES: Final = (
    "create_session",
    "create_trainer",
    "init_trainer_server",
    "forward_backward",
    "optim_step",
    "save_state",
    "save_weights_for_sampler",
    "sample",
    "sampler_policy_version",
    "retrieve",
)
"""The calls that a training loop makes most: where `FaultPlan.seeded` puts its faults."""


@final
@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Which calls meet which faults; a value without state, and its `repr` can be pasted.

    Attributes:
        faults: any number of them, in any order; a call may meet several.
    """

    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        """Take any sequence of faults.

        Raises:
            UsageError: something among them is no fault.
        """
        faults: tuple[object, ...] = tuple(self.faults)
        strange = [fault for fault in faults if not isinstance(fault, MessageFault | WorldFault)]
        if strange:
            raise UsageError(
                f"faults holds {strange[0]!r}: expected values such as DropRequest('retrieve')",
                field="faults",
            )
        object.__setattr__(self, "faults", faults)

    @classmethod
    def seeded(
        cls,
        seed: int,
        *,
        rate: float = 0.1,
        kinds: Sequence[type[Fault]] = MESSAGE_FAULTS,
        routes: Sequence[str] = TRAINING_ROUTES,
        num_calls: int = 50,
    ) -> Self:
        """Return a plan drawn from the seed: the same on every platform and Python version.

        Args:
            seed: what it is drawn from.
            rate: how likely each of the calls is to meet a fault, from 0 to 1.
            kinds: which faults may be among them; by default those that run over HTTP too.
            routes: the calls that may meet one.
            num_calls: how many calls of each route are planned for.

        Raises:
            UsageError: `rate` is out of its range, `kinds` is empty, or a route is not known.
        """
        if not 0.0 <= rate <= 1.0:
            raise UsageError(f"rate is {rate}: expected a share from 0 to 1", field="rate")
        if not kinds:
            raise UsageError("kinds is empty: expected classes such as DropRequest", field="kinds")
        faults: list[Fault] = []
        for route in routes:
            rng = random.Random(f"{seed}/{route}")  # routes do not hang on one another
            faults += [
                _drawn(kinds[rng.randrange(len(kinds))], route, number, rng)
                for number in range(1, num_calls + 1)
                if rng.random() < rate
            ]
        return cls(tuple(faults))

    @property
    def needs_durable(self) -> bool:
        """Return whether the worker dies in this plan, so that its log has to outlive it."""
        return any(isinstance(fault, Restart | Preempt) for fault in self.faults)

    def only(self, *kinds: type[Fault]) -> FaultPlan:
        """Return the plan with the faults of these kinds alone."""
        return FaultPlan(tuple(fault for fault in self.faults if isinstance(fault, kinds)))

    def without(self, index: int) -> FaultPlan:
        """Return the plan without one of its faults, to see whether that one matters."""
        return FaultPlan((*self.faults[:index], *self.faults[index + 1 :]))

    def begin(self) -> PlanRun:
        """Return a count of calls that starts now and says what each of them meets."""
        return PlanRun(self)


@final
@dataclass(frozen=True, slots=True)
class Met:
    """A call that met faults: the route, the number of the call among the route's, the faults."""

    route: str
    number: int
    faults: tuple[Fault, ...]


@final
class PlanRun:
    """One run under a plan: counts calls; safe from many threads.

    Attributes:
        met: the calls that met a fault so far, in that order.
    """

    def __init__(self, plan: FaultPlan) -> None:
        self.met: list[Met] = []
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._num_calls = 0
        self._by_route: dict[str, list[Fault]] = {}
        for fault in plan.faults:
            self._by_route.setdefault(fault.route, []).append(fault)

    def meet(self, route: str) -> tuple[Fault, ...]:
        """Count a call, and return what happens to it."""
        if not self._by_route:
            return ()
        with self._lock:
            self._num_calls += 1
            number = self._counts[route] = self._counts.get(route, 0) + 1
            own = (fault for fault in self._by_route.get(route, ()) if fault.hits(number))
            total = self._num_calls
            general = (fault for fault in self._by_route.get(ANY, ()) if fault.hits(total))
            faults = (*own, *general)
            if faults:
                self.met.append(Met(route, number, faults))
            return faults


def _drawn(kind: type[Fault], route: str, number: int, rng: random.Random) -> Fault:
    """Return a fault of the kind; every draw takes the same numbers, whatever the kind."""
    seconds, code, asks = rng.random(), rng.choice(STATUSES), rng.random()
    share, reached = rng.random(), rng.random()
    fault = kind(route, number)
    match fault:
        case DropRequest() | LoseAnswer() | Delay() | Duplicate() | Reorder():
            return replace(fault, seconds=round(3.0 * seconds, 3))
        case Truncate():
            return replace(fault, share=round(0.99 * share, 3))
        case Status():
            pause_s = float(round(5.0 * seconds)) if asks < 0.5 else None  # whole, as on the wire
            return replace(fault, code=code, retry_after_s=pause_s, reached=reached < 0.5)
        case Restart():
            return replace(fault, after_s=round(seconds, 3))
        case Preempt():
            return replace(fault, after_s=round(seconds, 3), seconds=round(60.0 * share, 3))
        case JumpClock():
            return replace(fault, seconds=round(1200.0 * (seconds - 0.5), 3))
        case _:
            return fault
