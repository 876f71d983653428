"""The faults: what may be done to a call on its way, and to the world that answers it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final, final

from loops_core.errors import UsageError
from loops_core.types.routes import ROUTES

ANY: Final = "*"
"""The route of a fault that counts every call."""

STATUSES: Final = (408, 429, 502, 503, 504)
"""The statuses of something between client and service that say: not now."""

_ROUTE_NAMES: Final = frozenset(route.name for route in ROUTES)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to some calls of a route; its `repr` can be pasted.

    Attributes:
        route: the calls that count, by the name of their route such as `retrieve` or `optim_step`;
            `*` = all of them.
        at: the first call that is hit, counted from 1; every attempt of a call counts.
        times: how many calls in a row are hit.
    """

    route: str = ANY
    at: int = 1
    times: int = 1

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: there is no such route, or a number is out of its range.
        """
        if self.route != ANY and self.route not in _ROUTE_NAMES:
            known = ", ".join(sorted(_ROUTE_NAMES))
            raise UsageError(
                f"route is {self.route!r}: expected '*' or one of {known}", field="route"
            )
        for name in ("at", "times"):
            value: int = getattr(self, name)
            if value < 1:
                raise UsageError(f"{name} is {value}: expected a count from 1", field=name)
        self._check_seconds()

    def hits(self, number: int) -> bool:
        """Return whether the call with this number is hit, counted from 1."""
        return self.at <= number < self.at + self.times

    def _check_seconds(self) -> None:
        for name in (field.name for field in fields(self)):
            if name != "seconds" and not name.endswith("_s"):
                continue
            value: float | None = getattr(self, name)
            if value is None:
                continue
            if not math.isfinite(value) or (value < 0 and not isinstance(self, JumpClock)):
                raise UsageError(f"{name} is {value}: expected seconds from 0", field=name)


@final
@dataclass(frozen=True, slots=True)
class DropRequest(Fault):
    """The request never arrives; its caller's connection breaks `seconds` later."""

    seconds: float = 1.0


@final
@dataclass(frozen=True, slots=True)
class LoseAnswer(Fault):
    """The request is answered, and the connection breaks `seconds` later in place of the answer."""

    seconds: float = 1.0


@final
@dataclass(frozen=True, slots=True)
class Delay(Fault):
    """The request arrives `seconds` late."""

    seconds: float = 2.0


@final
@dataclass(frozen=True, slots=True)
class Duplicate(Fault):
    """The request arrives again `seconds` after the first time; nobody hears the second answer."""

    seconds: float = 0.5


@final
@dataclass(frozen=True, slots=True)
class Reorder(Fault):
    """The request arrives behind the next one that is sent, or `seconds` late if there is none."""

    seconds: float = 2.0


@final
@dataclass(frozen=True, slots=True)
class Truncate(Fault):
    """The answer breaks off after this share of its body, from 0 to below 1."""

    share: float = 0.5

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: a field is out of its range.
        """
        Fault.__post_init__(self)
        if not 0.0 <= self.share < 1.0:
            raise UsageError(
                f"share is {self.share}: expected a part of the body, from 0 to below 1",
                field="share",
            )


@final
@dataclass(frozen=True, slots=True)
class Status(Fault):
    """Something in between answers with a status, in place of the service.

    Attributes:
        code: 408, 429, 502, 503 or 504.
        retry_after_s: what its Retry-After header asks for; None = it has none.
        reached: whether the service was asked too; its answer is lost then.
    """

    code: int = 503
    retry_after_s: float | None = None
    reached: bool = False

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: the status is not among those, or a number is out of its range.
        """
        Fault.__post_init__(self)
        if self.code not in STATUSES:
            raise UsageError(
                f"code is {self.code}: expected one of {', '.join(map(str, STATUSES))}",
                field="code",
            )


@final
@dataclass(frozen=True, slots=True)
class Restart(Fault):
    """The worker dies `after_s` after the call has arrived, and comes back at once.

    What is durable is there again; polls under way lose their connection.
    """

    after_s: float = 0.1


@final
@dataclass(frozen=True, slots=True)
class Preempt(Fault):
    """The worker dies `after_s` after the call has arrived, and comes back `seconds` later."""

    after_s: float = 0.1
    seconds: float = 30.0


@final
@dataclass(frozen=True, slots=True)
class EvictResults(Fault):
    """Before the call is answered, the worker forgets every result that it holds."""


@final
@dataclass(frozen=True, slots=True)
class SlowSampler(Fault):
    """For `seconds` from the call on, samplers take `factor` times as long for a token."""

    factor: float = 20.0
    seconds: float = 60.0


@final
@dataclass(frozen=True, slots=True)
class WithholdVersion(Fault):
    """The version that this publish makes never reaches the samplers; the next one does."""

    route: str = "save_weights_for_sampler"


@final
@dataclass(frozen=True, slots=True)
class DiskFull(Fault):
    """For `seconds` from the call on, every save finds the disk full."""

    seconds: float = 10.0


@final
@dataclass(frozen=True, slots=True)
class JumpClock(Fault):
    """The wall clock jumps by `seconds`, back where that is negative; waits stay as long."""

    seconds: float = 3600.0


MessageFault = DropRequest | LoseAnswer | Delay | Duplicate | Reorder | Truncate | Status
"""What happens to one call on its way; these run over HTTP too."""

WorldFault = Restart | Preempt | EvictResults | SlowSampler | WithholdVersion | DiskFull | JumpClock
"""What happens to the world when a call arrives; these need a simulated one."""

MESSAGE_FAULTS: Final[tuple[type[MessageFault], ...]] = (
    DropRequest,
    LoseAnswer,
    Delay,
    Duplicate,
    Reorder,
    Truncate,
    Status,
)
WORLD_FAULTS: Final[tuple[type[WorldFault], ...]] = (
    Restart,
    Preempt,
    EvictResults,
    SlowSampler,
    WithholdVersion,
    DiskFull,
    JumpClock,
)
