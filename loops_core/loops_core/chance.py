"""Chance as a seam: ids, keys and seeds that nobody chose are drawn here.

They come from the machine's entropy. A simulated world draws them from its own seed, so that a run
can be had again: `drawn_from` says so for the context, and for the tasks that are started in it.
"""

from __future__ import annotations

import random
import string
from contextvars import ContextVar, Token
from typing import Final, final

_ALPHABET: Final = string.ascii_lowercase + string.digits

_ENTROPY: Final = random.SystemRandom()
_SOURCE: ContextVar[random.Random] = ContextVar("loops-chance")


def draw_hex(num_bytes: int) -> str:
    """Return so many bytes that nobody can guess, as twice as many hexadecimal digits."""
    return source().randbytes(num_bytes).hex()


def draw_bits(num_bits: int) -> int:
    """Return a number from 0 to below 2**num_bits."""
    return source().getrandbits(num_bits)


def draw_text(length: int) -> str:
    """Return so many small letters and digits."""
    return "".join(source().choices(_ALPHABET, k=length))


def source() -> random.Random:
    """Return what is drawn from in this context."""
    return _SOURCE.get(_ENTROPY)


def make_random() -> random.Random:
    """Return a source of its own, for numbers that are no secret."""
    return random.Random(draw_bits(64))


@final
class drawn_from:  # noqa: N801  # reads as what it is in a `with`
    """Draw from `source` in this context, while the block runs."""

    __slots__ = ("_source", "_token")

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._token: Token[random.Random] | None = None

    def __enter__(self) -> None:
        """Begin."""
        self._token = _SOURCE.set(self._source)

    def __exit__(self, *_: object) -> None:
        """End."""
        if self._token is not None:
            _SOURCE.reset(self._token)
