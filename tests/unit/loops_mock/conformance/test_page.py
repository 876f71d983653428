"""The page is whole, well-formed HTML that fetches nothing, and shows text as text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from tests.unit.loops_mock.conformance.conftest import SECRET

from loops_mock.conformance.document import ConformanceReport
from loops_mock.conformance.page import write_page

_VOID = {"meta", "br", "hr"}


class _Reader(HTMLParser):
    """Checks that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_it_is_well_formed_and_fetches_nothing(report: ConformanceReport) -> None:
    page = write_page(report)
    reader = _Reader()
    reader.feed(page)
    assert (reader.wrong, reader.open) == ([], [])
    assert not reader.tags & {"script", "link", "img", "iframe"}
    assert not re.search(r"""(?:src|href)=|@import|url\(""", page)


def test_what_a_service_says_is_shown_as_text(report: ConformanceReport) -> None:
    page = write_page(report)
    assert "&lt;b&gt;no&lt;/b&gt;" in page
    assert "<b>no</b>" not in page


def test_it_has_every_rule_and_how_to_repeat_the_broken_ones(report: ConformanceReport) -> None:
    page = write_page(report)
    for rule in report.rules:
        assert f"<code>{rule.id}</code>" in page
    for rule in report.broken():
        assert f"--only {rule.id} --seed 5" in page
    assert "does not keep the contract" in page
    assert SECRET not in page


def test_a_service_that_keeps_the_contract_is_told_so(report: ConformanceReport) -> None:
    page = write_page(report.model_copy(update={"verdict": "kept", "rules": report.rules[:1]}))
    assert "keeps the contract" in page
    assert "Broken rules" not in page
