"""The base model's tokenizer, loaded on first use."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast, final

from loops_core.errors import NotFoundError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedTokenizerBase

    from loops_core.plugins import Plugins

_FILES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
"""At least one of these is in a directory that has a tokenizer."""


@final
class TokenizerCache:
    """One client's tokenizer; plugins find its files, which are read from the local disk only."""

    def __init__(self, plugins: Callable[[], Plugins], base_model: str) -> None:
        self._plugins = plugins
        self._base_model = base_model
        self._lock = threading.Lock()
        self._tokenizer: PreTrainedTokenizerBase | None = None

    def get(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer.

        Raises:
            UnsupportedError: transformers is not installed.
            NotFoundError: nobody resolves the base model, or it comes without a tokenizer.
        """
        with self._lock:
            if self._tokenizer is None:
                if importlib.util.find_spec("transformers") is None:
                    raise UnsupportedError(
                        "get_tokenizer() needs transformers, which is not installed: "
                        "pip install 'loops-core[transformers]'"
                    )
                self._tokenizer = self._load(self._plugins().resolve_model(self._base_model))
            return self._tokenizer

    def _load(self, directory: Path) -> PreTrainedTokenizerBase:
        if not any((directory / name).is_file() for name in _FILES):
            raise self._missing(directory, f"none of {', '.join(_FILES)} is there")
        from transformers import AutoTokenizer

        try:
            return cast(
                "PreTrainedTokenizerBase",
                AutoTokenizer.from_pretrained(  # pyright: ignore[reportUnknownMemberType]  # untyped
                    directory, local_files_only=True, trust_remote_code=False
                ),
            )
        except (OSError, ValueError) as error:
            raise self._missing(directory, str(error)) from error

    def _missing(self, directory: Path, why: str) -> NotFoundError:
        return NotFoundError(
            f"base_model {self._base_model!r} has no tokenizer that can be read in {directory}: "
            f"{why}; training and sampling with token ids work without one",
            kind="tokenizer",
            name=self._base_model,
        )
