"""The command teaches itself, and a mistake ends with a message and an exit code."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from loops_core import cli


def test_the_help_names_the_commands() -> None:
    result = CliRunner().invoke(cli.app, ["--help"])
    assert result.exit_code == 0
    assert all(name in result.output for name in ("quickstart", "plugins", "version"))


def test_the_quickstarts_help_names_models_and_outputs() -> None:
    result = CliRunner().invoke(cli.app, ["quickstart", "--help"])
    assert result.exit_code == 0
    assert all(word in result.output for word in ("loops-tiny", "smollm2", "PEFT", "--output"))


def test_the_commands_of_plugins_are_there_and_teach() -> None:
    result = CliRunner().invoke(cli.make_app(), ["--help"])
    assert all(name in result.output for name in ("quickstart", "serve"))
    help_of_serve = CliRunner().invoke(cli.make_app(), ["serve", "--help"]).output
    assert all(word in help_of_serve for word in ("--base-model", "LOOPS_API_KEY", "SIGTERM"))


def test_plugins_are_listed_with_their_hooks() -> None:
    result = CliRunner().invoke(cli.app, ["plugins"])
    assert result.exit_code == 0
    (line,) = (line for line in result.output.splitlines() if line.startswith("smollm2"))
    assert line.split()[:3] == ["smollm2", "loops-backend-jax", "0.1.0"]
    assert "loops_resolve_model" in line


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--steps", "0"], 2, "steps is 0; expected at least 1"),
        (["--data", "/missing.jsonl"], 1, "'/missing.jsonl' is not a file"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    arguments: list[str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    monkeypatch.setattr(sys, "argv", ["loops", "quickstart", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    error = capsys.readouterr().err
    assert error.startswith("loops: ")
    assert message in error
    assert "Traceback" not in error
