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
    """Yield name and number of lines, docstring left out, of every function of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            first = node.body[0]
            docstring = 0
            if ast.get_docstring(node, clean=False) is not None and first.end_lineno is not None:
                docstring = first.end_lineno - first.lineno + 1
            yield node.name, node.end_lineno - node.lineno + 1 - docstring


def test_no_function_is_longer_than_40_lines_beside_its_docstring(
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
