"""Strategies for what a trainer and a sampler take: rows, datums, batches, prompts, settings.

A row is a datum as plain numbers; it prints short. What is drawn fits the smallest model: token ids
below `vocab_size`, few positions, at least one position of each row active.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, overload

from hypothesis import strategies as st

from loops_core.types.datum import Datum, EncodedTextChunk, ImageChunk, ModelInput
from loops_core.types.sampling import SamplingParams
from loops_core.types.training import IGNORED_TARGET, AdamParams
from loops_mock.strategies.broken_batches import break_batch
from loops_mock.strategies.defects import Defect
from loops_mock.strategies.program import Row

VOCAB_SIZE: Final = 32
"""Token ids are drawn below this unless told otherwise: every model has as many."""

MAX_LENGTH: Final = 6
"""Rows are drawn no longer than this unless told otherwise."""

LOSS_INPUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "cross_entropy": (),
    "importance_sampling": ("logprobs", "advantages"),
    "ppo": ("logprobs", "advantages"),
    "cispo": ("logprobs", "advantages"),
    "dro": ("logprobs", "advantages"),
    "dpo": ("ref_logprobs",),
    "dppo": ("logprobs", "advantages"),
}
"""What each loss of the protocol needs in `loss_fn_inputs` besides the targets."""

PROTOCOL_LOSSES: Final = tuple(LOSS_INPUTS)
"""The losses of the protocol."""

_CYCLES: Final[Mapping[str, tuple[tuple[float, ...], ...]]] = {
    "weights": ((1.0,), (1.0, 0.5), (2.0, 0.0), (1.0, -1.0)),
    "advantages": ((1.0,), (1.0, -1.0), (-0.5, 0.0)),
    "logprobs": ((-1.0,), (-5.5, -0.125)),
    "ref_logprobs": ((-1.0,), (-0.125, -5.5)),
}
"""The numbers that an input repeats over a row's positions; the first position is never zero."""

_UNTOUCHED: Final[tuple[float, ...]] = ()


@st.composite
def rows(
    draw: st.DrawFn,
    *,
    loss_fn: str = "cross_entropy",
    vocab_size: int = VOCAB_SIZE,
    max_length: int = MAX_LENGTH,
) -> Row:
    """Draw one row with the inputs of a loss; the first position is active."""
    ids = st.integers(0, vocab_size - 1)
    pairs = draw(st.lists(st.tuples(ids, ids), min_size=1, max_size=max_length))
    tokens, targets = (tuple(each) for each in zip(*pairs, strict=True))
    every = draw(st.sampled_from([0, 2, 3]))  # ignore each second or third position, or none
    if every:
        targets = tuple(
            target if number % every == 0 else IGNORED_TARGET
            for number, target in enumerate(targets)
        )
    names = LOSS_INPUTS.get(loss_fn, ())
    cycles: dict[str, tuple[float, ...]] = {
        name: draw(st.sampled_from(_CYCLES[name])) for name in names
    }
    if loss_fn == "cross_entropy":
        cycles["weights"] = draw(st.sampled_from([_UNTOUCHED, *_CYCLES["weights"]]))
    inputs = {
        name: tuple(cycle[number % len(cycle)] for number in range(len(tokens)))
        for name, cycle in cycles.items()
        if cycle
    }
    return Row(tokens, targets, tuple(inputs.items()))


def row_batches(
    *,
    loss_fn: str = "cross_entropy",
    vocab_size: int = VOCAB_SIZE,
    max_length: int = MAX_LENGTH,
    max_size: int = 3,
) -> st.SearchStrategy[tuple[Row, ...]]:
    """Return a strategy for batches of rows; those of `dpo` are pairs."""
    one = rows(loss_fn=loss_fn, vocab_size=vocab_size, max_length=max_length)
    if loss_fn != "dpo":
        return st.lists(one, min_size=1, max_size=max_size).map(tuple)
    pairs = st.lists(st.tuples(one, one), min_size=1, max_size=max(1, max_size // 2))
    return pairs.map(lambda drawn: tuple(row for pair in drawn for row in pair))


def datums(
    *,
    loss_fn: str = "cross_entropy",
    vocab_size: int = VOCAB_SIZE,
    max_length: int = MAX_LENGTH,
) -> st.SearchStrategy[Datum]:
    """Return a strategy for valid datums of a loss."""
    return rows(loss_fn=loss_fn, vocab_size=vocab_size, max_length=max_length).map(Row.datum)


@overload
def batches(
    *,
    loss_fn: str = "cross_entropy",
    vocab_size: int = VOCAB_SIZE,
    max_length: int = MAX_LENGTH,
    invalid: Literal[False] = False,
) -> st.SearchStrategy[list[Datum]]: ...


@overload
def batches(
    *,
    loss_fn: str = "cross_entropy",
    vocab_size: int = VOCAB_SIZE,
    max_length: int = MAX_LENGTH,
    invalid: Literal[True],
) -> st.SearchStrategy[Defect[list[Datum]]]: ...


def batches(
    *,
    loss_fn: str = "cross_entropy",
    vocab_size: int = VOCAB_SIZE,
    max_length: int = MAX_LENGTH,
    invalid: bool = False,
) -> st.SearchStrategy[list[Datum]] | st.SearchStrategy[Defect[list[Datum]]]:
    """Return a strategy for batches of a loss.

    Args:
        loss_fn: the loss that will read them.
        vocab_size: token ids are below this.
        max_length: most positions of a datum.
        invalid: draw a batch with one datum broken, as a `Defect`: a service refuses it and names
            the field. What is beyond the vocabulary is beyond that of every model.
    """
    drawn = row_batches(loss_fn=loss_fn, vocab_size=vocab_size, max_length=max_length)
    valid = drawn.map(lambda batch: [row.datum() for row in batch])
    return _broken(valid) if invalid else valid


@st.composite
def _broken(draw: st.DrawFn, valid: st.SearchStrategy[list[Datum]]) -> Defect[list[Datum]]:
    batch = draw(valid)
    position = draw(st.integers(0, len(batch) - 1))
    return draw(st.sampled_from(break_batch(batch, position)))


def model_inputs(
    *, vocab_size: int = VOCAB_SIZE, max_length: int = MAX_LENGTH, images: bool = False
) -> st.SearchStrategy[ModelInput]:
    """Return a strategy for model inputs of one to three chunks."""
    tokens = st.lists(st.integers(0, vocab_size - 1), min_size=1, max_size=max_length)
    chunks: st.SearchStrategy[EncodedTextChunk | ImageChunk] = tokens.map(
        lambda ids: EncodedTextChunk(tokens=ids)
    )
    if images:
        chunks = chunks | st.builds(
            ImageChunk,
            data=st.binary(min_size=1, max_size=8),
            format=st.sampled_from(["png", "jpeg"]),
            expected_tokens=st.integers(1, 4),
        )
    return st.lists(chunks, min_size=1, max_size=3).map(lambda some: ModelInput(chunks=[*some]))


def prompts(
    *, vocab_size: int = VOCAB_SIZE, max_length: int = MAX_LENGTH
) -> st.SearchStrategy[tuple[int, ...]]:
    """Return a strategy for prompts as token ids."""
    return st.lists(st.integers(0, vocab_size - 1), min_size=1, max_size=max_length).map(tuple)


def adam_params(*, max_learning_rate: float = 0.1) -> st.SearchStrategy[AdamParams]:
    """Return a strategy for settings of an optimizer step that leave a model's numbers finite."""
    return st.builds(
        AdamParams,
        learning_rate=st.sampled_from([0.01, 0.0, 0.001, max_learning_rate]),
        beta1=st.sampled_from([0.9, 0.0, 0.5]),
        beta2=st.sampled_from([0.95, 0.0, 0.999]),
        eps=st.sampled_from([1e-8, 1e-12, 1e-3]),
        weight_decay=st.sampled_from([0.0, 0.01]),
        grad_clip_norm=st.sampled_from([1.0, 0.0, 0.01]),
    )


def sampling_params(*, max_tokens: int = 4) -> st.SearchStrategy[SamplingParams]:
    """Return a strategy for how to draw tokens, with what every sampler offers, and a seed."""
    return st.builds(
        SamplingParams,
        max_tokens=st.integers(1, max_tokens),
        seed=st.integers(0, 2**31 - 1),
        temperature=st.sampled_from([1.0, 0.0, 0.5, 2.0]),
        stop=st.none() | st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=2),
    )
