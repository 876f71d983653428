"""Write the tables of rules into docs/protocol.md, from the rules themselves.

    python tools/write_rule_tables.py

A table stands behind its mark, `<!-- rules 2.3 -->`, and ends with the first empty line after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from loops_mock.contract.profiles import OPEN, is_meant
from loops_mock.contract.rule import Rule, all_rules

PAGE: Final = Path(__file__).parents[1] / "docs" / "protocol.md"

_MARK: Final = re.compile(r"<!-- rules (?P<section>[\d.]+) -->\n(?:\n(?:\|.*\n)+)?")
_UNSAID: Final = frozenset({"http", "train", "sample"})


def write_tables(page: str, rules: Iterable[Rule]) -> str:
    """Return the page with the table of every mark as the rules have it.

    Raises:
        ValueError: a rule's section has no mark.
    """
    rows: dict[str, list[str]] = {}
    for rule in rules:
        rows.setdefault(rule.section, []).append(_row(rule))
    written = _MARK.sub(lambda found: _table(found["section"], rows), page)
    missing = rows.keys() - {found["section"] for found in _MARK.finditer(page)}
    if missing:
        raise ValueError(f"docs/protocol.md has no mark for the rules of section {sorted(missing)}")
    return written


def _table(section: str, rows: dict[str, list[str]]) -> str:
    lines = rows.get(section, [])
    head = ["", "| rule | promise |", "| --- | --- |"] if lines else []
    return "\n".join([f"<!-- rules {section} -->", *head, *lines, ""])


def _row(rule: Rule) -> str:
    mark = " *" if any(is_meant(rule.id, text) for text in OPEN) else ""
    needs = ", ".join(f"`{need}`" for need in sorted(rule.needs - _UNSAID))
    asked = f" (where there is {needs})" if needs else ""
    promise = rule.title.replace("|", "\\|")
    return f"| `{rule.id}`{mark} | {promise}{asked} |"


if __name__ == "__main__":
    PAGE.write_text(write_tables(PAGE.read_text(encoding="utf-8"), all_rules()), encoding="utf-8")
