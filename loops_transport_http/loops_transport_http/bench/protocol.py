"""`loops bench protocol`: the comparisons by name, and their sizes."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from loops_core.errors import UsageError
from loops_transport_http.bench import (
    cpu,
    crowd,
    encoding,
    inprocess,
    overhead,
    served,
    throughput,
)
from loops_transport_http.bench.published import PublishedClient, find_python
from loops_transport_http.bench.report import Report, Row
from loops_transport_http.bench.workload import LONG, BatchSize


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured."""

    rounds: int
    big_rounds: int
    encoding: BatchSize
    encoding_rounds: int
    num_waiting: int
    probes: int
    outstanding: tuple[int, ...]
    num_operations: int
    repeats: int


FULL: Final = Sizes(
    rounds=2_000,
    big_rounds=100,
    encoding=LONG,
    encoding_rounds=5,
    num_waiting=2_000,
    probes=300,
    outstanding=(1, 16, 64, 256),
    num_operations=1_024,
    repeats=2,
)
QUICK: Final = Sizes(
    rounds=10,
    big_rounds=3,
    encoding=BatchSize(2, 512),
    encoding_rounds=1,
    num_waiting=50,
    probes=5,
    outstanding=(1, 4),
    num_operations=16,
    repeats=1,
)


Comparison: TypeAlias = Callable[[Sizes, PublishedClient | None], Iterator[Row]]
"""Measures one thing; the published client is None where none is installed."""

COMPARISONS: Final[Mapping[str, tuple[str, Comparison]]] = {
    overhead.NAME: (
        overhead.TITLE,
        lambda sizes, client: overhead.measure(rounds=sizes.rounds, client=client),
    ),
    served.NAME: (
        served.TITLE,
        lambda sizes, _: served.measure(rounds=sizes.rounds // 2),
    ),
    inprocess.NAME: (
        inprocess.TITLE,
        lambda sizes, _: inprocess.measure(rounds=sizes.rounds),
    ),
    cpu.NAME: (
        cpu.TITLE,
        lambda sizes, client: cpu.measure(rounds=sizes.big_rounds, client=client),
    ),
    encoding.NAME: (
        encoding.TITLE,
        lambda sizes, client: encoding.measure(
            size=sizes.encoding, rounds=sizes.encoding_rounds, client=client
        ),
    ),
    crowd.NAME: (
        crowd.TITLE,
        lambda sizes, _: crowd.measure(num_waiting=sizes.num_waiting, rounds=sizes.probes),
    ),
    throughput.NAME: (
        throughput.TITLE,
        lambda sizes, _: throughput.measure(
            outstanding=sizes.outstanding,
            num_operations=sizes.num_operations,
            repeats=sizes.repeats,
        ),
    ),
}
"""Every comparison by name, in the order in which they run."""


def run(*, only: tuple[str, ...], quick: bool, as_json: bool, sdk_python: Path | None) -> None:
    """Measure and print.

    Args:
        only: names of comparisons; empty = all.
        quick: take small sizes and few rounds.
        as_json: print lines of JSON.
        sdk_python: an interpreter with a published client; None = look for one.

    Raises:
        UsageError: a name is not known, or the interpreter has no published client.
    """
    for name in only:
        if name not in COMPARISONS:
            known = ", ".join(COMPARISONS)
            raise UsageError(f"--only is {name!r}: expected one of {known}", field="only")
    report, sizes = Report(as_json=as_json), QUICK if quick else FULL
    report.say(_machine())
    with ExitStack() as stack:
        python = find_python(sdk_python)
        client = None if python is None else PublishedClient(python)
        if client is not None:
            stack.enter_context(client.child)
        for name, (title, measure) in COMPARISONS.items():
            if not only or name in only:
                report.add(title, measure(sizes, client))


def _machine() -> str:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} CPUs, load before: {load}"
    )
