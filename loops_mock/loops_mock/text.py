"""The mock's tokenizer: a token is a character, so any text and any tokens have one reading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

_SURROGATES: Final = range(0xD800, 0xE000)
"""Code points that are no characters."""

_LAST: Final = 0x10FFFF


class StringStop(NamedTuple):
    """A stop string that was found: how many tokens stand before it, and their text."""

    num_tokens: int
    text: str


def to_text(tokens: Sequence[int]) -> str:
    """Return the character of each token: the one whose code point it is, else U+FFFD."""
    return "".join(
        chr(token) if token <= _LAST and token not in _SURROGATES else "\ufffd" for token in tokens
    )


def to_tokens(text: str) -> list[int]:
    """Return the token of each character."""
    return [ord(character) for character in text]


def find_string_stop(tokens: Sequence[int], stop_strings: Sequence[str]) -> StringStop | None:
    """Return where the first stop string begins, or None.

    First is the string that ends first; of several that end there, the longest.
    """
    text = to_text(tokens)
    ends = [(at + len(stop), at) for stop in stop_strings if (at := text.find(stop)) >= 0]
    if not ends:
        return None
    at = min(ends)[1]
    return StringStop(at, text[:at])
