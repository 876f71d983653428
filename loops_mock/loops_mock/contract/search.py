"""Looks for a program that a service gets wrong, and shrinks it; needs no pytest."""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, final

from loops_mock.contract.check import check_program
from loops_mock.contract.rule import CheckFailed
from loops_mock.contract.shrinking import MOST_ATTEMPTS, shrink
from loops_mock.strategies.program import Program

if TYPE_CHECKING:
    from loops_mock.contract.recording import Made
    from loops_mock.contract.subject import Subject


class MakesSubjects(Protocol):
    """Makes the fresh subject of each program; `Target.subject` does."""

    def __call__(self, *, seed: int = 0) -> Subject:
        """Return the service under test."""
        ...


@dataclass(frozen=True, slots=True)
class FailingProgram:
    """A program that a service gets wrong; none with fewer calls was found.

    Attributes:
        program: the calls.
        failure: what was expected, and what was there instead.
        made: the calls as they went to the service.
    """

    program: Program
    failure: CheckFailed
    made: tuple[Made, ...]

    def __str__(self) -> str:
        """Return the calls, one a line, and what was wrong."""
        return f"{self.program}\n{self.failure}"


@contextmanager
def beside_other_threads() -> Generator[None]:
    """Let Hypothesis draw while a service's threads draw from `random` for themselves.

    Hypothesis takes any change of the global generator during a draw as the strategy's own doing.
    """
    from hypothesis.errors import HypothesisDeprecationWarning

    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Do not use the `random` module", HypothesisDeprecationWarning
        )
        yield


def find_failing_program(
    subject_factory: MakesSubjects,
    *,
    seed: int,
    max_examples: int,
    max_calls: int = 10,
    losses: Sequence[str] = ("cross_entropy",),
    failures: bool = True,
    sums_are_exact: bool = False,
    search_s: float | None = None,
    most_attempts: int = MOST_ATTEMPTS,
) -> FailingProgram | None:
    """Return the smallest program found that a service gets wrong; None = there was none.

    Args:
        subject_factory: makes the service's subject for each program.
        seed: of the programs; equal seeds try equal programs in one order.
        max_examples: how many programs to try before one fails.
        max_calls: most calls of a program.
        losses: the losses that passes may ask for.
        failures: whether programs also make calls that are refused or fail.
        sums_are_exact: whether a batch must leave the same bits in one call and in several.
        search_s: try no further program after so many seconds; None = any time.
        most_attempts: how many smaller programs to try once one has failed.
    """
    from hypothesis import HealthCheck, Phase, Verbosity, given, settings
    from hypothesis import seed as seeded
    from hypothesis.errors import Flaky

    from loops_mock.strategies.programs import programs

    look = _Look(subject_factory, seed, search_s, sums_are_exact=sums_are_exact)
    drawn = programs(max_calls=max_calls, losses=losses, failures=failures)
    chosen = settings(
        max_examples=max_examples,
        database=None,
        deadline=None,
        verbosity=Verbosity.quiet,
        print_blob=False,
        phases=(Phase.generate,),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )

    @seeded(seed)
    @chosen
    @given(drawn)
    def try_programs(program: Program) -> None:
        assert not look.fails(program)

    with suppress(AssertionError, Flaky), beside_other_threads():
        try_programs()
    if look.smallest is not None:
        shrink(look.smallest.program, look.fails, most_attempts=most_attempts)
    return look.smallest


@final
class _Look:
    """Tries one program after another, for as long as there is time, and keeps the last failure."""

    def __init__(
        self,
        factory: MakesSubjects,
        seed: int,
        search_s: float | None,
        *,
        sums_are_exact: bool,
    ) -> None:
        self._factory = factory
        self._seed = seed
        self._sums_are_exact = sums_are_exact
        self._end = None if search_s is None else time.monotonic() + search_s
        self.smallest: FailingProgram | None = None

    def fails(self, program: Program) -> bool:
        """Try one program; while none has failed and no time is left, take it as good."""
        late = self._end is not None and time.monotonic() > self._end
        if late and self.smallest is None:
            return False
        with self._factory(seed=self._seed) as subject:
            try:
                check_program(subject, program, sums_are_exact=self._sums_are_exact)
            except CheckFailed as failure:
                self.smallest = FailingProgram(program, failure, tuple(subject.calls))
                return True
        return False
