"""Tokens become text with or without special tokens; a damaged tokenizer is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.loops_backend_jax.sample.conftest import SPECIAL, TinyText

from loops_backend_jax.sample.text import TextDecoder, has_tokenizer
from loops_core.errors import CheckpointError


def test_special_tokens_are_left_out_or_named(tiny_text: TinyText) -> None:
    tokens = tiny_text.encode("Hello", SPECIAL, "Ġworld")
    assert tiny_text.decoder.decode(tokens, special=False) == "Hello world"
    assert tiny_text.decoder.decode(tokens, special=True) == f"Hello{SPECIAL} world"


def test_half_a_character_is_a_replacement_character(tiny_text: TinyText) -> None:
    tokens = tiny_text.encode("é".encode()[:1])
    assert tiny_text.decoder.decode(tokens, special=True) == "\ufffd"


def test_a_directory_says_whether_it_has_a_tokenizer(tiny_text: TinyText, tmp_path: Path) -> None:
    assert has_tokenizer(tiny_text.model_dir)
    assert not has_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"")
    assert has_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
def test_a_damaged_tokenizer_is_named_when_it_is_needed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{")
    decoder = TextDecoder(tmp_path)  # not read yet
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        decoder.decode([1], special=False)


@pytest.mark.slow  # a new interpreter
def test_a_tokenizer_file_is_read_without_transformers(tiny_text: TinyText) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from loops_backend_jax.sample.text import TextDecoder;"
        f"TextDecoder(Path({str(tiny_text.model_dir)!r})).decode([65], special=False);"
        "sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
