"""Tokens as text: one character each, and where a stop string cuts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loops_mock.text import StringStop, find_string_stop, to_text, to_tokens


@given(st.text())
def test_any_text_has_tokens_that_read_as_it(text: str) -> None:
    assert to_text(to_tokens(text)) == text


@given(st.lists(st.integers(0, 2**63), max_size=8))
def test_every_token_is_one_character(tokens: list[int]) -> None:
    assert len(to_text(tokens).encode().decode()) == len(tokens)


def test_the_string_that_ends_first_stops() -> None:
    tokens = to_tokens("say hello there")
    assert find_string_stop(tokens, ["there", "hello"]) == StringStop(4, "say ")
    assert find_string_stop(tokens, ["hello the", "lo"]) == StringStop(7, "say hel")


def test_of_strings_that_end_together_the_longest_stops() -> None:
    assert find_string_stop(to_tokens("hello"), ["lo", "ello"]) == StringStop(1, "h")


def test_a_string_that_is_not_there_stops_nothing() -> None:
    assert find_string_stop(to_tokens("hello"), ["help"]) is None
