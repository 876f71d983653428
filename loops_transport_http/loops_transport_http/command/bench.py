"""The command `loops bench protocol`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def protocol(
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Run this comparison alone; may be given more than once. One of overhead, served,"
            " inprocess, cpu, encoding, crowd, throughput.",
            show_default="all",
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="A few rounds of each with small sizes: shows that it runs, not how fast.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON a row, for programs.")
    ] = False,
    sdk_python: Annotated[
        Path | None,
        typer.Option(
            help="An interpreter in which a published client (baseten-loops) is installed.",
            show_default="this one, or the python3.12 on the search path, where it has it",
        ),
    ] = None,
) -> None:
    """Measure the HTTP protocol beside raw requests, and beside published clients.

    Contenders of a comparison are measured in turns (A B C, B C A, ...) in
    one run, because machines are noisy: read the ratios, not the
    milliseconds, and compare nothing across runs.

    \b
    overhead    an operation from call to result on a server that answers at
                once; the floor is a raw httpx POST + GET
    served      the same on `loops serve`
    inprocess   the same without a wire: the client, the log, and the thread
                that applies entries
    cpu         CPU time of the client's process for 32 x 1,024 tokens
    encoding    64 x 8,192 tokens into bytes and back: frames beside JSON
    crowd       2,000 futures that wait: what /health and submits take then
    throughput  operations a second at 1 to 256 outstanding

    A bound that is missed is printed and is no error: the exit code is 0
    when everything ran.
    """  # noqa: D301 - \b keeps the lines of the list apart
    from loops_transport_http.bench.protocol import run

    run(only=tuple(only or ()), quick=quick, as_json=as_json, sdk_python=sdk_python)
