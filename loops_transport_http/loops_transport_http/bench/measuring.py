"""Timing contenders in turns, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Seconds = Sequence[float]

_MS: Final = 1000.0


@dataclass(frozen=True, slots=True)
class Contender:
    """One of those that are compared.

    Attributes:
        name: what the row is called.
        run: does the work once and returns the seconds that it took.
    """

    name: str
    run: Callable[[], float]


def timed(name: str, work: Callable[[], object]) -> Contender:
    """Return a contender that is judged by the wall clock."""

    def run() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return Contender(name, run)


def timed_cpu(name: str, work: Callable[[], object]) -> Contender:
    """Return a contender that is judged by the CPU time of this process, all its threads."""

    def run() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return Contender(name, run)


def interleave(
    contenders: Sequence[Contender], *, rounds: int, warmup: int = 3
) -> dict[str, list[float]]:
    """Return each contender's seconds, one a round; whoever begins a round moves on by one."""
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(-warmup, rounds):
        first = number % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            spent = contender.run()
            if number >= 0:
                seconds[contender.name].append(spent)
    return seconds


def percentile(values: Seconds, share: float) -> float:
    """Return the value that `share` (0 to 1) of the values do not exceed.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 0.5)
    2.0
    """
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def spread(values: Seconds) -> dict[str, float]:
    """Return the median and the slowest percent of some seconds, in milliseconds."""
    return {
        "p50_ms": statistics.median(values) * _MS,
        "p99_ms": percentile(values, 0.99) * _MS,
    }


def beside(values: Seconds, floor: Seconds) -> Mapping[str, float]:
    """Return how many times the floor's: at the median, at the slowest percent, and in a round."""
    pairs = [mine / theirs for mine, theirs in zip(values, floor, strict=True)]
    return {
        "x_p50": statistics.median(values) / statistics.median(floor),
        "x_p99": percentile(values, 0.99) / percentile(floor, 0.99),
        "x_pair": statistics.median(pairs),
    }
