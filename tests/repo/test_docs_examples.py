"""The Python blocks of the README and of the pages in docs/ run, page by page, top to bottom."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```$", flags=re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[int, str]]:
    """Return (number of the line before it, code) of every Python block of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, found.start(2)), textwrap.dedent(found[2]))
        for found in BLOCK.finditer(text)
    ]


PAGES = [
    page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if blocks(page)
]


def test_the_readme_has_an_example() -> None:
    assert ROOT / "README.md" in PAGES


@pytest.mark.slow  # an example may open a JAX model
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_examples_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOPS_DATA_DIR", str(tmp_path / "data"))
    names: dict[str, object] = {"__name__": "example"}
    for line, code in blocks(page):
        exec(compile("\n" * line + code, str(page), "exec"), names)
