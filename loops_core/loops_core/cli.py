"""The `loops` command."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated

import typer

from loops_core.errors import LoopsError

app = typer.Typer(
    name="loops",
    help="LoRA fine-tuning and reinforcement learning of language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def quickstart(
    *,
    base_model: Annotated[
        str,
        typer.Option(
            help="The model to fine-tune: loops-tiny (built in, needs no network), smollm2 (a real"
            " model of 135M weights, 93 MB, fetched once), a Hugging Face directory, or org/name"
            " on the model hub.",
        ),
    ] = "loops-tiny",
    steps: Annotated[
        int | None,
        typer.Option(
            help="Optimizer steps.", show_default="300 for loops-tiny, 30 for smollm2, else 40"
        ),
    ] = None,
    rank: Annotated[
        int | None, typer.Option(help="Rank of the LoRA adapter.", show_default="16")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Highest learning rate of the schedule.", show_default="by model"),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Examples a step.", show_default="16 for loops-tiny, else 8"),
    ] = None,
    resume_steps: Annotated[
        int, typer.Option(help="Further steps, taken twice to prove that a checkpoint resumes.")
    ] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the adapter and of the examples' order.")] = 0,
    data: Annotated[
        Path | None,
        typer.Option(
            help="JSONL file with the fields instruction and response.",
            show_default="the shipped examples",
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="What to ask before and after; may be given more than once."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the files that are written.")] = Path(
        "loops-quickstart"
    ),
    base_url: Annotated[
        str | None,
        typer.Option(
            help="The service to use: inproc:jax, inproc:mock, or an http URL.",
            show_default="LOOPS_BASE_URL, else inproc:jax",
        ),
    ] = None,
    wandb_project: Annotated[
        str | None, typer.Option(help="Weights & Biases project that also gets the metrics.")
    ] = None,
) -> None:
    """Fine-tune a small model and look at what came of it.

    Teaches the model the shipped instructions with a LoRA adapter, samples
    before and after, saves a checkpoint and proves that it resumes bit for
    bit. Writes metrics, loss curve, answers and the adapter (PEFT format).

    Exit code 1: the loss did not fall under half of the first, or the
    checkpoint did not resume exactly. 2: an option is mistaken.
    """
    from loops_core.quickstart.command import run_command
    from loops_core.quickstart.settings import make_settings

    settings = make_settings(
        base_model=base_model,
        base_url=base_url,
        steps=steps,
        resume_steps=resume_steps,
        rank=rank,
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
        output=output,
        data=data,
        prompts=tuple(prompt or ()),
        wandb_project=wandb_project,
    )
    raise typer.Exit(run_command(settings))


@app.command()
def plugins() -> None:
    """List the installed plugins and the hooks that each implements."""
    import importlib.metadata

    from loops_core.hooks import PROJECT

    entries = sorted(importlib.metadata.entry_points(group=PROJECT), key=lambda entry: entry.name)
    for entry in entries:
        brought_by = entry.dist
        distribution = "?" if brought_by is None else f"{brought_by.name} {brought_by.version}"
        typer.echo(f"{entry.name:<12}{distribution:<30}{_describe_hooks(entry)}")


def _describe_hooks(entry: EntryPoint) -> str:
    """Return the hooks of a plugin, or why it does not load."""
    from loops_core.hooks import PROJECT

    try:
        plugin: object = entry.load()
    except (ImportError, AttributeError) as error:
        return f"does not load: {error}"
    members = {name: getattr(plugin, name, None) for name in dir(plugin)}
    hooks = [name for name, value in members.items() if hasattr(value, f"{PROJECT}_impl")]
    return ", ".join(hooks) or "no hooks"


@app.command()
def version() -> None:
    """Show the version."""
    from loops_core import __version__

    typer.echo(__version__)


def make_app() -> typer.Typer:
    """Return the command line with what plugins bring.

    Raises:
        PluginError: a plugin does not load, or two bring one command.
    """
    from loops_core.plugins import Plugins

    whole = typer.Typer()
    whole.info, whole.registered_commands = app.info, list(app.registered_commands)
    groups: dict[str, typer.Typer] = {}
    commands = Plugins.load().commands()
    for command in commands:
        group, _, name = command.name.rpartition(" ")
        if group and group not in groups:
            groups[group] = typer.Typer(name=group, no_args_is_help=True, help=_GROUPS.get(group))
            whole.add_typer(groups[group])
        groups.get(group, whole).command(name)(command.function)
    if "serve" not in {command.name for command in commands}:
        whole.command("serve", context_settings={"ignore_unknown_options": True})(_no_serve)
    return whole


_GROUPS = {"bench": "Measure what Loops itself costs."}


def _no_serve(_arguments: Annotated[list[str] | None, typer.Argument(hidden=True)] = None) -> None:
    """Serve trainers and samplers over HTTP; needs pip install 'loops-framework[http]'."""
    from loops_core.errors import PluginError

    raise PluginError(
        "no installed plugin brings the command 'serve'; pip install 'loops-framework[http]'"
    )


def main() -> None:
    """Run the command line; a `LoopsError` ends it with its message and exit code 1."""
    try:
        make_app()()
    except LoopsError as error:
        typer.secho(f"loops: {error}", fg="red", err=True)
        sys.exit(2 if isinstance(error, ValueError) else 1)


if __name__ == "__main__":
    main()
