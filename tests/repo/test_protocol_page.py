"""The written specification and the rules that run are one: each rule stands in its section."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from loops_mock.contract.rule import Rule, all_rules

HOME = "loops_mock.contract.rules."
HOW = "run `python tools/write_rule_tables.py`"


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "protocol.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def writer(root: Path) -> ModuleType:
    """Return the tool that writes the tables."""
    path = root / "tools" / "write_rule_tables.py"
    spec = importlib.util.spec_from_file_location("write_rule_tables", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def our_rules() -> list[Rule]:
    return [rule for rule in all_rules() if rule.check.__module__.startswith(HOME)]


def written(page: str) -> dict[str, str]:
    """Return the section's number of every rule that the page has."""
    found: dict[str, str] = {}
    for part in re.split(r"^###? (?=\d)", page, flags=re.MULTILINE)[1:]:
        ids = re.findall(r"^\| `([\w-]+\.[\w-]+)`(?: \*)? \|", part, flags=re.MULTILINE)
        found |= dict.fromkeys(ids, part.split()[0])
    return found


def test_the_page_has_every_rule_in_its_section_and_no_other(page: str) -> None:
    assert written(page) == {rule.id: rule.section for rule in our_rules()}, HOW


def test_the_page_says_what_the_rules_promise(page: str, writer: ModuleType) -> None:
    assert writer.write_tables(page, our_rules()) == page, HOW


def test_every_section_without_rules_is_prose_and_every_mark_has_its_heading(page: str) -> None:
    headings = re.findall(r"^### ([\d.]+) ", page, flags=re.MULTILINE)
    assert re.findall(r"<!-- rules ([\d.]+) -->", page) == headings
