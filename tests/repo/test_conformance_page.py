"""The page about conformance names every field of the report and every option's profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from loops_mock.conformance.document import CheckedRule, ConformanceReport
from loops_mock.contract.profiles import profiles


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "conformance.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("model", [ConformanceReport, CheckedRule])
def test_every_field_of_the_report_is_described(
    model: type[ConformanceReport | CheckedRule], page: str
) -> None:
    assert not [name for name in model.model_fields if f"`{name}" not in page]


def test_every_profile_is_in_the_table(page: str) -> None:
    assert not [each.name for each in profiles() if f"| `{each.name}` |" not in page]
