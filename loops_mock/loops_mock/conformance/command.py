"""The command `loops conformance`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

KEPT: Final = 0
BROKEN: Final = 1
"""Exit codes; a mistaken option, or a service that cannot be asked, is 2."""


def conformance(
    *,
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="The service: http://HOST:PORT, https://HOST, or inproc:mock in this process.",
        ),
    ] = "",
    profile: Annotated[
        str, typer.Option(help="What the service is held to: loops-0.32, or loops for all rules.")
    ] = "loops-0.32",
    api_key: Annotated[
        str | None,
        typer.Option(
            help="The key that the service asks for; never shown.", envvar="LOOPS_API_KEY"
        ),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(help="The model to train.", show_default="the first that the service lists"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all random data; the same asks the same.")] = 0,
    only: Annotated[
        list[str] | None,
        typer.Option(help="A rule, or the beginning of its id. May be given more than once."),
    ] = None,
    jobs: Annotated[
        int, typer.Option(help="How many rules run side by side, on runs of their own.", min=1)
    ] = 4,
    rule_timeout_s: Annotated[
        float, typer.Option(help="Most seconds that one rule may take.", min=1)
    ] = 120.0,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write the report here as JSON.")
    ] = None,
    html_path: Annotated[
        Path | None, typer.Option("--html", help="Write the report here as one HTML page.")
    ] = None,
    list_rules: Annotated[
        bool, typer.Option("--list", help="Show the rules of the profile and ask nothing.")
    ] = False,
) -> None:
    """Check that a service keeps the Loops protocol.

    Runs every rule of docs/protocol.md that the profile has, each on runs of
    its own, which are ended afterwards. Names each broken rule with what was
    expected and seen, the calls that show it and the command that repeats it.

    Exit code 0: all that is offered is as promised. 1: a rule is broken.
    2: an option is mistaken, or the service cannot be asked.

    loops conformance http://127.0.0.1:8000 --api-key KEY

    loops conformance inproc:mock --only submit --html report.html
    """
    from loops_mock.conformance.job import Job, list_profile, run_job

    if list_rules:
        list_profile(profile, only or [])
        return
    job = Job(
        url=url,
        profile=profile,
        api_key=api_key,
        base_model=base_model,
        seed=seed,
        only=tuple(only or ()),
        jobs=jobs,
        rule_timeout_s=rule_timeout_s,
        json_path=json_path,
        html_path=html_path,
    )
    raise typer.Exit(KEPT if run_job(job) else BROKEN)
