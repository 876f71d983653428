"""Faults of batches that are too large for one request."""

from __future__ import annotations

from typing import Final

from tests.mutants.editing import Edit
from tests.mutants.mutant import Mutant

_CHUNKING: Final = "loops_core.client.chunking"
_LINK: Final = "loops_core.client.link:TrainerLink"

CHUNKS: Final = (
    Mutant(
        "chunks.last-lost",
        "the last examples of a large batch are never sent",
        "client",
        (Edit(f"{_CHUNKING}:split", "return parts", "return parts[:-1] or parts"),),
    ),
    Mutant(
        "chunks.first-sent-twice",
        "the first examples of a large batch are trained twice",
        "client",
        (Edit(f"{_CHUNKING}:split", "return parts", "return [parts[0], *parts]"),),
    ),
    Mutant(
        "chunks.results-swapped",
        "outputs of a large batch come back in another order than its examples",
        "client",
        (
            Edit(
                f"{_CHUNKING}:join",
                "[tensors for output in outputs for tensors in output.loss_fn_outputs]",
                "[tensors for output in outputs[::-1] for tensors in output.loss_fn_outputs]",
            ),
        ),
    ),
    Mutant(
        "chunks.one-key-for-all",
        "of a large batch only the first chunk is trained: all have one idempotency key",
        "client",
        (
            Edit(
                f"{_LINK}.submit_all",
                "key if len(bodies) == 1 else f'{key}.{offset}'",
                "key",
            ),
        ),
    ),
    Mutant(
        "chunks.keys-of-their-own",
        "a large batch that is sent again under its key is trained twice",
        "client",
        (
            Edit(
                f"{_LINK}.submit_all",
                "key if len(bodies) == 1 else f'{key}.{offset}'",
                "key if len(bodies) == 1 else new_key()",
            ),
        ),
    ),
    Mutant(
        "chunks.pairs-separated",
        "dpo fails on large batches: chosen and rejected travel apart",
        "client",
        (
            Edit(
                "loops_core.client.passes:_bodies",
                "2 if loss_fn in _PAIRED_LOSSES else 1",
                "1",
            ),
        ),
    ),
)
"""The faults of large batches."""
