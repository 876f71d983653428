"""Makes `tiny_tokenizer.json`, the built-in model's tokenizer, from the quickstart's instructions.

Run `python -m loops_backend_jax.resolvers.make_tokenizer` after a change of either; a test compares
the shipped file with what this makes.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from loops_backend_jax.resolvers.builtin import SPECIAL_TOKENS, VOCAB_SIZE


def make_tokenizer_json() -> str:
    """Return the content of `tokenizer.json`: byte-level BPE, 512 entries, any text round-trips."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return tokenizer.to_str(pretty=True) + "\n"


def _texts() -> list[str]:
    source = resources.files("loops_core.quickstart") / "instructions.jsonl"
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    return [row[key] for row in rows for key in ("instruction", "response")]


if __name__ == "__main__":
    Path(__file__).with_name("tiny_tokenizer.json").write_text(make_tokenizer_json(), "utf-8")
