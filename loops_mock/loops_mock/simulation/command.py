"""The command `loops bench simulation`."""

from __future__ import annotations

from typing import Annotated

import typer


def simulation(
    *,
    operations: Annotated[int, typer.Option(help="How many each comparison runs.")] = 10_000,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON a row, for programs.")
    ] = False,
) -> None:
    """Measure the simulated world: operations a second, and an hour of training.

    \b
    sequential  a pass, its result, a step, its result, without maths
    pipelined   the same with 64 operations under way
    mock        the same pipelined, with the mock's model
    faults      the same with the mock's model, where messages are lost and
                the worker dies
    hour        an hour of training: samples, passes, steps, publishing

    Every row prints the digest of its trace: it is the same on every
    platform and Python version.
    """  # noqa: D301 - \b keeps the lines of the list apart
    from loops_mock.simulation.bench import run

    run(operations=operations, as_json=as_json)
