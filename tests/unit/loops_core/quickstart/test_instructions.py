"""The shipped examples are what they promise, and a mistaken file is named with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loops_core.errors import NotFoundError, UsageError
from loops_core.quickstart.instructions import Instruction, load_instructions


def test_more_than_a_hundred_different_examples_are_shipped() -> None:
    shipped = load_instructions()
    assert len({example.instruction for example in shipped}) == len(shipped) >= 120


def test_every_shipped_response_is_short_and_in_the_house_style() -> None:
    for example in load_instructions():
        assert example.response.startswith(("Copy. ", "Negative. ")), example
        assert example.response.endswith(" Over."), example
        assert len(example.response) <= 60, example


def test_a_file_of_the_users_is_read_in_order(tmp_path: Path) -> None:
    rows = [
        {"instruction": "a\u2028b", "response": "c", "more": 1},
        {"instruction": "d", "response": "e"},
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    assert load_instructions(path) == (Instruction("a\u2028b", "c"), Instruction("d", "e"))


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"instruction": "a"}', '{"instruction": 1, "response": "b"}']
)
def test_a_line_that_is_no_example_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"instruction": "a", "response": "b"}\n' + line)
    with pytest.raises(UsageError, match=r"mine\.jsonl, line 2 is .* expected") as caught:
        load_instructions(path)
    assert caught.value.field == "data"


def test_an_empty_field_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"instruction": " ", "response": "b"}')
    with pytest.raises(UsageError, match="line 1 has an empty field"):
        load_instructions(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("\n")
    with pytest.raises(UsageError, match="is empty"):
        load_instructions(tmp_path / "mine.jsonl")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"missing\.jsonl' is not a file"):
        load_instructions(tmp_path / "missing.jsonl")
