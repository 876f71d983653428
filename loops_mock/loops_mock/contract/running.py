"""Running rules against a service, and what came of each."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol, final

from loops_core.errors import UnsupportedError
from loops_mock.contract.recording import Made
from loops_mock.contract.rule import CheckFailed, NotOffered, Rule
from loops_mock.contract.subject import Subject

RULE_TIMEOUT_S: Final = 120.0
"""A rule that takes longer has not been kept: it ends as an error."""

_SMALLER: Final = (1, 2)
"""With so many rows a failed rule is tried again, to show fewer."""


class Outcome(StrEnum):
    """What came of a rule."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_OFFERED = "not_offered"
    ERROR = "error"


class SubjectFactory(Protocol):
    """Makes the service under test as one rule sees it; `Target.subject` is one."""

    def __call__(self, *, seed: int, num_rows: int) -> Subject:
        """Return a fresh subject."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """What came of one rule.

    Attributes:
        rule: the rule.
        outcome: passed, failed, not offered, or an error of the check itself.
        seconds: how long it took.
        message: what was expected, what is not offered, or what went wrong.
        seen: what was there instead, as text by name.
        calls: the calls made, where it was not kept; polls that said nothing are left out.
        seed: with which it ran.
    """

    rule: Rule
    outcome: Outcome
    seconds: float
    seed: int
    message: str = ""
    seen: Mapping[str, str] = field(default_factory=dict[str, str])
    calls: tuple[Made, ...] = ()

    @property
    def is_kept(self) -> bool:
        """Tell whether nothing speaks against the service."""
        return self.outcome in (Outcome.PASSED, Outcome.NOT_OFFERED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of all rules.

    Attributes:
        seed: of the run.
        seconds: how long it took.
        results: one per rule, in order.
    """

    seed: int
    seconds: float
    results: tuple[RuleResult, ...]

    def of(self, outcome: Outcome) -> tuple[RuleResult, ...]:
        """Return the results with one outcome."""
        return tuple(result for result in self.results if result.outcome is outcome)

    @property
    def is_kept(self) -> bool:
        """Tell whether nothing speaks against the service."""
        return all(result.is_kept for result in self.results)


def run_rules(
    subject_factory: SubjectFactory,
    rules: Iterable[Rule],
    *,
    seed: int = 0,
    on_result: Callable[[RuleResult], None] | None = None,
    timeout_s: float | None = RULE_TIMEOUT_S,
    num_rows: int = 3,
    num_at_once: int = 1,
) -> Report:
    """Return what came of each rule, run once; the results have the order of the rules.

    Args:
        subject_factory: makes the fresh subject of each rule.
        rules: the rules.
        seed: of the run; each rule has random numbers of its own, the same whatever else is run.
        on_result: is told each result at once, one at a time.
        timeout_s: seconds that a rule may take; it then ends as an error, and is left behind on its
            thread. None = any time, on this thread.
        num_rows: how many datums a rule has unless it says.
        num_at_once: how many rules run side by side; each has clients and runs of its own.
    """
    start = time.perf_counter()
    telling = threading.Lock()

    def run(rule: Rule) -> RuleResult:
        result = _run(subject_factory, rule, seed, num_rows, timeout_s)
        if result.outcome is Outcome.FAILED:
            result = _smaller(subject_factory, result, num_rows, timeout_s)
        if on_result is not None:
            with telling:
                on_result(result)
        return result

    if num_at_once == 1:
        results = [run(rule) for rule in rules]
    else:
        results = _side_by_side(run, rules, num_at_once)
    return Report(seed=seed, seconds=time.perf_counter() - start, results=tuple(results))


def _side_by_side(
    run: Callable[[Rule], RuleResult], rules: Iterable[Rule], num_at_once: int
) -> list[RuleResult]:
    """Return the results in order; the first error of `on_result` ends it all."""
    with ThreadPoolExecutor(num_at_once, thread_name_prefix="rules") as threads:
        running = [threads.submit(run, rule) for rule in rules]
        try:
            return [each.result() for each in running]
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _smaller(
    factory: SubjectFactory, result: RuleResult, num_rows: int, timeout_s: float | None
) -> RuleResult:
    """Return the same failure with fewer rows, if there is one."""
    for fewer in _SMALLER:
        if fewer < num_rows and result.seconds < 10:
            again = _run(factory, result.rule, result.seed, fewer, timeout_s)
            if again.outcome is Outcome.FAILED and again.message == result.message:
                return again
    return result


def _run(
    factory: SubjectFactory, rule: Rule, seed: int, num_rows: int, timeout_s: float | None
) -> RuleResult:
    attempt = _Attempt(factory, rule, seed, num_rows)
    if timeout_s is None:
        attempt.run()
    else:
        thread = threading.Thread(target=attempt.run, name=f"rule {rule.id}", daemon=True)
        thread.start()
        thread.join(timeout_s)
    return attempt.result(timeout_s)


@final
class _Attempt:
    """One run of one rule, which may be left behind."""

    def __init__(self, factory: SubjectFactory, rule: Rule, seed: int, num_rows: int) -> None:
        self._factory = factory
        self._rule = rule
        self._seed = seed
        self._num_rows = num_rows
        self._start = time.perf_counter()
        self._subject: Subject | None = None
        self._ended: tuple[Outcome, str, Mapping[str, str], float] | None = None

    def run(self) -> None:
        """Run the check; whatever it raises is kept."""
        own_seed = zlib.crc32(f"{self._seed} {self._rule.id}".encode())
        outcome, message, seen = Outcome.PASSED, "", dict[str, str]()
        try:
            with self._factory(seed=own_seed, num_rows=self._num_rows) as subject:
                self._subject = subject
                subject.require(*sorted(self._rule.needs))
                self._rule.check(subject)
        except (NotOffered, UnsupportedError) as refused:
            outcome, message = Outcome.NOT_OFFERED, str(refused)
        except CheckFailed as failure:
            outcome, message = Outcome.FAILED, failure.message
            seen = {name: _text(value) for name, value in failure.seen.items()}
        except Exception as error:  # noqa: BLE001 - a report tells what a check died of
            outcome, message = Outcome.ERROR, f"{type(error).__name__}: {error}"
        self._ended = (outcome, message, seen, time.perf_counter() - self._start)

    def result(self, timeout_s: float | None) -> RuleResult:
        """Return what came of it by now."""
        late = f"the rule was still running after {timeout_s} s"
        seconds = time.perf_counter() - self._start
        outcome, message, seen, seconds = self._ended or (Outcome.ERROR, late, {}, seconds)
        calls: tuple[Made, ...] = ()
        scrub = str if self._subject is None else self._subject.log.scrub
        if self._subject is not None and outcome in (Outcome.FAILED, Outcome.ERROR):
            calls = told(self._subject.calls)
        return RuleResult(
            rule=self._rule,
            outcome=outcome,
            seconds=seconds,
            seed=self._seed,
            message=scrub(message),
            seen={name: scrub(text) for name, text in seen.items()},
            calls=calls,
        )


def told(calls: Iterable[Made]) -> tuple[Made, ...]:
    """Return the calls that tell something: polls that found nothing yet are left out."""
    return tuple(
        made
        for made in calls
        if not (made.is_poll and made.answered.startswith(("pending", "408")))
    )


def _text(value: object) -> str:
    text = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else repr(value)
    return text if len(text) <= 1000 else f"{text[:1000]}..."
