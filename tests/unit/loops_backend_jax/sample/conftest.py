"""A tokenizer small enough to be read: one token a byte, and a few longer ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from loops_backend_jax.sample.text import TextDecoder

PIECES = ("Hello", "Ġworld", ".ĊĊ", "ST", "OP", "ĠSTO", "P!", "a", "b", "Ċ")
SPECIAL = "<|end|>"


@dataclass(frozen=True)
class TinyText:
    """The tokenizer and what its tests need to name tokens.

    Attributes:
        model_dir: holds its tokenizer.json.
        decoder: the one under test.
        ids: token text to id; longer tokens are spelled as in PIECES.
    """

    model_dir: Path
    decoder: TextDecoder
    ids: dict[str, int]

    def encode(self, *texts: str | bytes) -> list[int]:
        """Return one token for each text in PIECES, and one a byte for bytes."""
        return [token for text in texts for token in self._tokens(text)]

    def _tokens(self, text: str | bytes) -> Sequence[int]:
        if isinstance(text, str):
            return [self.ids[text]]
        return list(text)


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory: pytest.TempPathFactory) -> TinyText:
    directory = tmp_path_factory.mktemp("tokenizer")
    names = [*byte_names(), *(piece for piece in PIECES if len(piece) > 1)]
    vocab = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=[]))
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([SPECIAL])  # pyright: ignore[reportUnknownMemberType]  # bare list
    tokenizer.save(str(directory / "tokenizer.json"))
    ids = {**vocab, SPECIAL: len(names)}
    return TinyText(directory, TextDecoder(directory), ids)


def byte_names() -> list[str]:
    """Return the printable character that stands for each byte, in order of the bytes."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    names = [chr(byte if byte in plain else next(others)) for byte in range(256)]
    assert set(names) == set(ByteLevel.alphabet())
    return names
