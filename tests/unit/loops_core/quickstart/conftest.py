"""Fakes for the quickstart's seams: a byte-level tokenizer and a clock that is turned by hand."""

from __future__ import annotations

from typing import final

import pytest


@final
class ByteTokenizer:
    """Token ids are bytes; 256 ends an answer."""

    def __init__(self, *, has_template: bool = True, has_end: bool = True) -> None:
        self.chat_template: str | None = "bytes" if has_template else None
        self.eos_token_id: int | None = 256 if has_end else None

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [0] * add_special_tokens + list(text.encode())

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return bytes(token for token in token_ids if token < 256).decode()

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        assert not tokenize
        text = "".join(f"{turn['role']}: {turn['content']}\n" for turn in conversation)
        return text + "assistant: " * add_generation_prompt


@final
class HandClock:
    """Shows the time that it was set to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def now(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def tokenizer() -> ByteTokenizer:
    return ByteTokenizer()


@pytest.fixture
def plain_tokenizer() -> ByteTokenizer:
    return ByteTokenizer(has_template=False, has_end=False)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()
