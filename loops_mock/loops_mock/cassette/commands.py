"""The commands `loops cassette show` and `loops cassette diff`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def show(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The cassette.")],
    *,
    call: Annotated[
        int | None, typer.Option(help="Show this call in full.", show_default="all, a line each")
    ] = None,
) -> None:
    """Show what a cassette holds: its calls, a line each, or one of them in full."""
    from loops_mock.cassette.parsing import load_cassette
    from loops_mock.cassette.showing import describe, describe_call

    tape = load_cassette(path)
    for line in describe(tape) if call is None else describe_call(tape, call):
        typer.echo(line)


def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A cassette.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    *,
    any_order: Annotated[
        bool,
        typer.Option(
            "--any-order",
            help="Compare operations by what was sent, whatever the order: for runs of many"
            " threads.",
        ),
    ] = False,
) -> None:
    """Show the first operation in which two cassettes differ, with the field and its values.

    Exit code 0: they tell of the same run. 1: they differ. 2: one is no
    cassette.
    """
    from loops_mock.cassette.diffing import diff_cassettes
    from loops_mock.cassette.parsing import load_cassette

    found = diff_cassettes(load_cassette(first), load_cassette(second), any_order=any_order)
    typer.echo("the same run" if found is None else str(found))
    raise typer.Exit(0 if found is None else 1)
