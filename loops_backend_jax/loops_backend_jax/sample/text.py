"""A model's tokenizer, as far as sampling needs it: whether there is one, and tokens as text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, final

from loops_core.errors import CheckpointError

FAST_FILE: Final = "tokenizer.json"
OTHER_FILES: Final = ("tokenizer.model", "vocab.json", "vocab.txt")
"""Older forms of a vocabulary, which transformers knows how to read."""

Decode = Callable[[Sequence[int], bool], str]


def has_tokenizer(model_dir: Path) -> bool:
    """Return whether the directory says how tokens become text."""
    return any((model_dir / name).is_file() for name in (FAST_FILE, *OTHER_FILES))


@final
class TextDecoder:
    """Turns token ids into text; the tokenizer is read when it is first needed."""

    def __init__(self, model_dir: Path) -> None:
        """Remember where the tokenizer lies."""
        self._model_dir = model_dir

    def decode(self, tokens: Sequence[int], *, special: bool) -> str:
        """Return the tokens as text; with `special`, special tokens by their names.

        Raises:
            CheckpointError: the tokenizer cannot be read.
        """
        return self._decode(tokens, not special)

    @functools.cached_property
    def _decode(self) -> Decode:
        if (self._model_dir / FAST_FILE).is_file():
            return _open_fast(self._model_dir / FAST_FILE)
        return _open_other(self._model_dir)


def _open_fast(path: Path) -> Decode:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no narrower class
        raise CheckpointError(f"{path} is no readable tokenizer: {error}") from error

    def decode(tokens: Sequence[int], skip: bool) -> str:  # noqa: FBT001
        return tokenizer.decode(list(tokens), skip_special_tokens=skip)

    return decode


def _open_other(model_dir: Path) -> Decode:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            model_dir, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise CheckpointError(f"{model_dir} has no readable tokenizer: {error}") from error

    def decode(tokens: Sequence[int], skip: bool) -> str:  # noqa: FBT001
        text = tokenizer.decode(
            list(tokens), skip_special_tokens=skip, clean_up_tokenization_spaces=False
        )
        assert isinstance(text, str)
        return text

    return decode
