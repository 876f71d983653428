"""The drawing of the errors, their page in the docs, and the classes are one and the same tree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from loops_core import errors
from loops_core.errors import LoopsError

# A line of the drawing: branches of four characters each, then a name, a star if it is published.
LINE = re.compile(
    r"^(?P<branch>(?:│   |    )*(?:├── |└── )?)(?P<name>[A-Z]\w+)(?P<star> \*)?\s{2,}\S"
)


def drawing_of(text: str) -> str:
    return text.partition("```text\n")[2].partition("```")[0]


def drawn(text: str) -> list[tuple[int, str]]:
    """Return (depth, name) of every class in the first drawing of a text."""
    drawing = drawing_of(text)
    lines = [LINE.match(line) for line in drawing.splitlines()]
    assert all(lines), "a line of the drawing does not have the form of the others"
    return [(len(line["branch"]) // 4, line["name"]) for line in lines if line]


def defined(cls: type[LoopsError] = LoopsError, depth: int = 0) -> Iterator[tuple[int, str]]:
    """Yield (depth, name) of every class of the core's tree, children in order of definition."""
    yield depth, cls.__name__
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from defined(child, depth + 1)


def test_the_drawing_in_the_module_is_the_tree_of_classes() -> None:
    assert errors.__doc__ is not None
    assert drawn(errors.__doc__) == list(defined())


def test_the_errors_page_shows_the_same_drawing(root: Path) -> None:
    assert errors.__doc__ is not None
    drawing = drawing_of(errors.__doc__)
    assert drawing
    assert drawing in (root / "docs" / "errors.md").read_text(encoding="utf-8")


def test_the_errors_page_has_a_row_for_every_error(root: Path) -> None:
    page = (root / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert rows == [name for _, name in defined()]


NEVER_SEEN = {
    "refusals.py: Refused",
    "status_errors.py: _Answered",
    "rule.py: CheckFailed",
    "rule.py: NotOffered",
}
"""One ends a request inside the server, and carries an error of the tree; the next makes an error
of the tree an `httpx.HTTPStatusError` too; the last two are how a rule of the contract ends."""


def test_no_error_is_defined_outside_the_tree(source_files: list[Path]) -> None:
    raised = re.compile(r"^class (\w+)\((?:[\w., ]*)(?:Error|Exception)\b", flags=re.MULTILINE)
    elsewhere = [
        f"{path.name}: {name}"
        for path in source_files
        if path.name != "errors.py"
        for name in raised.findall(path.read_text(encoding="utf-8"))
    ]
    assert set(elsewhere) == NEVER_SEEN
