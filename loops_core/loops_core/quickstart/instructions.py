"""The examples that the quickstart learns from: the shipped ones, or a file of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from loops_core.errors import NotFoundError, UsageError


@dataclass(frozen=True, slots=True)
class Instruction:
    """One example.

    Attributes:
        instruction: what is asked.
        response: what is to be answered.
    """

    instruction: str
    response: str


_READER: Final = TypeAdapter(Instruction)


def load_instructions(path: Path | None = None) -> tuple[Instruction, ...]:
    """Return the examples in a JSONL file with the fields `instruction` and `response`.

    Args:
        path: the file; None = the one shipped with this package.

    Raises:
        NotFoundError: there is no such file.
        UsageError: a line is not such an object, or the file holds none.
    """
    if path is None:
        text = (resources.files("loops_core.quickstart") / "instructions.jsonl").read_text(
            encoding="utf-8"
        )
        name = "instructions.jsonl"
    else:
        if not path.is_file():
            raise NotFoundError(
                f"data {str(path)!r} is not a file; expected JSONL with instruction and response",
                kind="file",
                name=str(path),
                field="data",
            )
        text, name = path.read_text(encoding="utf-8"), str(path)
    lines = [
        (number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()
    ]
    if not lines:
        raise UsageError(f"data {name!r} is empty; expected at least one example", field="data")
    return tuple(_parse(line, place=f"{name}, line {number}") for number, line in lines)


def _parse(line: str, *, place: str) -> Instruction:
    try:
        example = _READER.validate_json(line, strict=True)
    except ValidationError as error:
        raise UsageError(
            f'data: {place} is {line[:80]!r}; expected {{"instruction": "...", "response": "..."}}',
            field="data",
        ) from error
    if not (example.instruction.strip() and example.response.strip()):
        raise UsageError(f"data: {place} has an empty field; fill or remove it", field="data")
    return example
