"""Files and functions stay small enough to be read at once, and files say their subject."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40
NO_ROOMS = {"utils.py", "util.py", "common.py", "helpers.py", "misc.py"}


def num_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_python_file_is_longer_than_400_lines(tracked_files: list[Path], root: Path) -> None:
    sizes = {path: num_lines(path) for path in tracked_files if path.suffix == ".py"}
    long = {str(p.relative_to(root)): n for p, n in sizes.items() if n > MAX_FILE_LINES}
    assert not long


def test_median_source_file_is_under_150_lines(
    source_files: list[Path], record_property: Callable[[str, object], None]
) -> None:
    sizes = [n for n in map(num_lines, source_files) if n]
    record_property("median_lines", statistics.median(sizes))
    record_property("longest_lines", max(sizes))
    assert statistics.median(sizes) < 150


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield name and lines of the body, signature and docstring left out, of every function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            has_docstring = ast.get_docstring(node, clean=False) is not None
            body = node.body[1:] if has_docstring else node.body
            last = body[-1].end_lineno if body else None
            yield node.name, 0 if last is None else last - body[0].lineno + 1


def test_no_body_of_a_function_is_longer_than_40_lines(
    source_files: list[Path], root: Path
) -> None:
    long = [
        f"{path.relative_to(root)}: {name} has {n} lines"
        for path in source_files
        for name, n in functions(path)
        if n > MAX_FUNCTION_LINES
    ]
    assert not long


def test_no_file_is_a_room_for_everything(source_files: list[Path]) -> None:
    assert not [path for path in source_files if path.name in NO_ROOMS]


def test_every_folder_with_code_is_a_package(source_files: list[Path]) -> None:
    folders = {path.parent for path in source_files}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]
