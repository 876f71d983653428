"""The page of hooks is a contract: a heading with its exact arguments for each, and its promise."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from loops_core import hooks


def hook_specs() -> dict[str, Callable[..., object]]:
    return {
        name: function
        for name, function in vars(hooks).items()
        if name.startswith("loops_") and inspect.isfunction(function)
    }


@pytest.fixture(scope="module")
def sections(root: Path) -> dict[str, str]:
    """Return the page's sections of hooks, by heading."""
    page = (root / "docs" / "hooks.md").read_text(encoding="utf-8")
    parts = re.split(r"^### `(loops_\w+\(.*\))`$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def heading(name: str) -> str:
    return f"{name}({', '.join(inspect.signature(hook_specs()[name]).parameters)})"


def test_there_is_a_section_for_every_hook_and_no_other(sections: dict[str, str]) -> None:
    assert list(sections) == [heading(name) for name in hook_specs()]


@pytest.mark.parametrize("name", hook_specs())
def test_a_section_says_whether_the_first_answer_wins(name: str, sections: dict[str, str]) -> None:
    options: dict[str, bool] = getattr(hook_specs()[name], "loops_spec")  # noqa: B009 - set by pluggy
    first = "**The first answer wins.**" in sections[heading(name)]
    assert first == options["firstresult"]
    assert first != ("**All are called.**" in sections[heading(name)])


@pytest.mark.parametrize("name", hook_specs())
def test_a_hook_is_typed_and_says_when_it_is_called(name: str) -> None:
    signature = inspect.signature(hook_specs()[name])
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not p.empty for p in signature.parameters.values())
    assert "Called" in (inspect.getdoc(hook_specs()[name]) or "")
