"""The command `loops serve`."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from loops_core.errors import UsageError

MEMORY: Final = ":memory:"
_KEY_VARIABLE: Final = "LOOPS_API_KEY"


def serve(
    *,
    backend: Annotated[
        str, typer.Option(help="What does the maths: jax, mock, or a plugin's.")
    ] = "jax",
    base_model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model to serve: NAME, a Hugging Face directory DIR, or NAME=DIR. May be given"
            " more than once.",
            show_default="loops-tiny, or mock-tiny for the mock",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on. A public one needs --api-key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    data_dir: Annotated[
        Path,
        typer.Option(
            help="Where logs, records and checkpoints are kept; what was accepted survives there."
            " :memory: keeps nothing.",
        ),
    ] = Path("loops-data"),
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            help="A key that callers must show: KEY, or OWNER=KEY. May be given more than once.",
            show_default="LOOPS_API_KEY, else one is made at the first start and printed",
        ),
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Ask for no key. On the loopback interface only.")
    ] = False,
    records_url: Annotated[
        str | None,
        typer.Option(
            help="Database of the records, such as postgresql+psycopg://USER@HOST/DB.",
            envvar="LOOPS_RECORDS_URL",
            show_default="SQLite in the data directory",
        ),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(
            help="The address that clients see, where a proxy stands in front.",
            show_default="the one they asked for",
        ),
    ] = None,
    allow_local_paths: Annotated[
        bool,
        typer.Option(
            "--allow-local-paths", help="Let load_state read directories of this machine."
        ),
    ] = False,
    max_body_mib: Annotated[
        int, typer.Option(help="Largest body of a request, in MiB.", min=1)
    ] = 64,
    max_reading_mib: Annotated[
        int, typer.Option(help="Most MiB of large bodies that are read at once.", min=1)
    ] = 512,
    max_queued: Annotated[
        int, typer.Option(help="Most operations of a run that wait to be executed.", min=1)
    ] = 4096,
    max_queued_mib: Annotated[
        int, typer.Option(help="Most MiB of a run's operations that wait.", min=1)
    ] = 512,
    room_wait_s: Annotated[
        float,
        typer.Option(
            help="Seconds that a request waits for room within these bounds before it is told to"
            " come again.",
            min=0,
        ),
    ] = 20.0,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON when ready, for programs.")
    ] = False,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log every request.")] = False,
) -> None:
    """Serve trainers and samplers over HTTP.

    Starts control plane, trainers and samplers on one port and prints how to
    reach them. Ends cleanly on SIGTERM or Ctrl-C: the running operation is
    finished, what waits stays in the data directory for the next start.

    loops serve --backend jax --base-model loops-tiny

    loops serve --backend jax --base-model small=./SmolLM2-135M --port 9000

    LOOPS_BASE_URL=http://127.0.0.1:8000 LOOPS_API_KEY=... python train.py
    """
    from loops_transport_http.server.opening import Offer, run_offer

    keys = list(api_key or ())
    if not keys and os.environ.get(_KEY_VARIABLE):
        keys = [os.environ[_KEY_VARIABLE]]
    if no_auth and keys:
        raise UsageError("--no-auth and a key exclude each other", field="no_auth")
    with tempfile.TemporaryDirectory(prefix="loops-serve-") as scratch:
        is_memory = str(data_dir) == MEMORY
        files = Path(scratch) if is_memory else data_dir.expanduser().absolute()
        files.mkdir(parents=True, exist_ok=True)
        offer = Offer(
            backend=backend,
            served=served_models(base_model or [], backend),
            host=host,
            port=port,
            files=files,
            is_memory=is_memory,
            keys=tuple(keys),
            no_auth=no_auth,
            records_url=records_url,
            public_url=public_url,
            local_paths=allow_local_paths,
            max_body_mib=max_body_mib,
            max_reading_mib=max_reading_mib,
            max_queued=max_queued,
            max_queued_mib=max_queued_mib,
            room_wait_s=room_wait_s,
            access_log=access_log,
        )
        run_offer(offer, _show_json if json_output else partial(_show, has_keys=not no_auth))


def served_models(given: Sequence[str], backend: str) -> dict[str, str]:
    """Return the served models by name, each with what is to be resolved.

    Raises:
        UsageError: two have one name.

    >>> served_models(["loops-tiny", "small=/models/SmolLM2"], "jax")
    {'loops-tiny': 'loops-tiny', 'small': '/models/SmolLM2'}
    """
    texts = given or ["mock-tiny" if backend == "mock" else "loops-tiny"]
    served: dict[str, str] = {}
    for text in texts:
        name, equals, source = text.partition("=")
        if not equals:
            path = Path(text).expanduser()
            is_folder = (path / "config.json").is_file()
            name, source = (path.resolve().name, str(path)) if is_folder else (text, text)
        if name in served:
            raise UsageError(
                f"base_model {name!r} is given twice: name one of them, NAME=DIR",
                field="base_model",
            )
        served[name] = source
    return served


def _show_json(facts: dict[str, str | int | None]) -> None:
    typer.echo(json.dumps(facts))


def _show(facts: dict[str, str | int | None], *, has_keys: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        if value is not None:
            table.add_row(name.replace("_", " "), str(value))
    console = Console(soft_wrap=True)
    console.print("[bold]Loops is ready.[/bold] Ctrl-C ends it.")
    console.print(table)
    if has_keys and facts["api_key"] is None:
        console.print("Callers show one of the keys you gave, or the one made at the first start.")
