"""The audit of data: whether what is trained on samples fits what was sampled; pure.

Position i of a datum predicts the token that stands at i + 1 of the sequence. A datum is recognised
by its tokens. Off by one, its targets, log-probabilities or advantages give a loss that looks like
any other; beside the sample they do not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeAlias, final

import numpy as np

from loops_core.types.operation import OperationKind
from loops_mock.watching.events import Example, Sampled, Submitted
from loops_mock.watching.finding import Finding, Mistake
from loops_mock.watching.program import Program

_IGNORED: Final = -100
_TOKEN_BYTES: Final = 8
_TOLERANCE: Final = 1e-3
"""A log-probability may have gone through half precision on its way; a shift is far larger."""

_Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


def shifted_data(program: Program) -> list[Finding]:
    """Return a finding for each pass in which targets, logprobs or advantages do not fit.

    Data without sampled tokens are not judged.
    """
    findings: list[Finding] = []
    for run, operations in program.operations.items():
        drawn = _Drawn(
            each for each in program.samples if each.run_id == run and not each.is_scoring
        )
        for operation in operations:
            if operation.kind is OperationKind.FORWARD_BACKWARD:
                findings += _judge(operation, drawn)
    return findings


def _judge(operation: Submitted, drawn: _Drawn) -> Iterator[Finding]:
    for position, example in enumerate(operation.examples):
        source = _Source.of(example, drawn.alike(example, before=operation.number))
        wrong = None if source is None else source.wrong_in(example)
        if source is None or wrong is None:
            continue
        yield Finding(
            mistake=Mistake.SHIFTED_DATA,
            operation=operation.kind.value,
            position=operation.number,
            place=operation.place,
            message=f"{operation.name} ({operation.where}), data[{position}] trains on "
            f"{source.sample.name} ({source.sample.where}): {wrong}",
        )
        return  # the other data are made by the same line


@final
@dataclass(frozen=True, slots=True)
class _Sequence:
    """One sampled sequence: all its tokens, and the log-probabilities of the new ones."""

    sample: Sampled
    tokens: _Array
    logprobs: _Array


@final
class _Drawn:
    """Sampled sequences, found by how they begin."""

    def __init__(self, samples: Iterable[Sampled]) -> None:
        self._by_tokens: dict[bytes, list[_Sequence]] = {}
        for sample in samples:
            for tokens, logprobs in zip(sample.sequences, sample.logprobs, strict=True):
                if logprobs:
                    one = _Sequence(
                        sample, np.frombuffer(tokens, np.int64), np.frombuffer(logprobs)
                    )
                    self._by_tokens.setdefault(tokens, []).append(one)
        self._sorted = sorted(self._by_tokens)
        self._sizes = sorted({len(tokens) for tokens in self._sorted})

    def alike(self, example: Example, *, before: int) -> list[_Sequence]:
        """Return what was sampled earlier and begins as the example, or is how it begins."""
        read = example.tokens[: len(example.targets)]
        if len(read) <= _TOKEN_BYTES:
            return []
        found = [
            one
            for size in self._sizes
            if size < len(read)
            for one in self._by_tokens.get(read[:size], ())
        ]
        for tokens in islice(self._sorted, bisect_left(self._sorted, read), None):
            if not tokens.startswith(read):
                break
            found += self._by_tokens[tokens]
        earlier = [one for one in found if one.sample.number < before]
        return sorted(earlier, key=lambda one: one.sample.number)


@final
@dataclass(frozen=True, slots=True)
class _Source:
    """What a datum should say, by position.

    Attributes:
        sample: the last sample that drew a token of it.
        targets: the token after each position; -100 where that is not known.
        logprobs: of each target that was drawn, a row for each sequence that drew it; else NaN.
    """

    sample: Sampled
    targets: _Array
    logprobs: _Array

    @classmethod
    def of(cls, example: Example, found: list[_Sequence]) -> _Source | None:
        """Return what the datum should say; None = nothing of it was sampled."""
        count = len(example.targets) // _TOKEN_BYTES
        read = np.frombuffer(example.tokens, np.int64)[:count]
        if not found:
            return None
        targets = np.append(read[1:], _IGNORED)
        logprobs = np.full((len(found), count), np.nan)
        for row, each in enumerate(found):
            start = len(each.tokens) - len(each.logprobs)
            told = each.logprobs[: max(0, count + 1 - start)]
            logprobs[row, start - 1 : start - 1 + len(told)] = told
        return cls(found[-1].sample, targets, logprobs)

    def wrong_in(self, example: Example) -> str | None:
        """Return what is shifted in the datum; None = nothing is."""
        targets = np.frombuffer(example.targets, np.int64)
        advantages = self._values(example.advantages, 1.0)
        active = (targets != _IGNORED) & (advantages != 0)
        known = active & (self.targets != _IGNORED)
        shift = _shift(targets, self.targets, known)
        if shift is not None:
            return (
                f"target_tokens come one position too {shift}; position i predicts the token at "
                "i + 1: the inputs are tokens[:-1], the targets tokens[1:]"
            )
        if example.logprobs is None:
            return None
        logprobs = self._values(example.logprobs, 0.0)
        shifts = [_shift(logprobs, row, active & ~np.isnan(row)) for row in self.logprobs]
        if None not in shifts:
            return (
                f"logprobs come one position too {shifts[-1]} for what the sampler gave; the first "
                "new token is the target of the last position of the prompt"
            )
        drawn: _Array = np.any(~np.isnan(self.logprobs), axis=0)
        shift = _shift_of_mask(active, drawn)
        if shift is not None:
            return (
                f"advantages come one position too {shift} for the sampled tokens; the first new "
                "token is the target of the last position of the prompt"
            )
        return None

    def _values(self, raw: bytes | None, default: float) -> _Array:
        values = np.frombuffer(raw or b"", np.float64)
        fits = len(values) == len(self.targets)
        return values if fits else np.full(len(self.targets), default)


def _shift(given: _Array, expected: _Array, where: _Array) -> str | None:
    """Return which way the given values are shifted by one; None = they fit, or differ otherwise.

    Args:
        given: a value a position.
        expected: what should stand there; NaN or -100 where that is not known.
        where: the positions that count.
    """
    ours, theirs = given.astype(np.float64), expected.astype(np.float64)
    theirs[theirs == _IGNORED] = np.nan
    if not where.any() or _near(ours[where], theirs[where]).all():
        return None
    for name, moved in (
        ("late", np.append(np.nan, theirs[:-1])),
        ("early", np.append(theirs[1:], np.nan)),
    ):
        rest = where & ~np.isnan(moved)
        if rest.any() and _near(ours[rest], moved[rest]).all():
            return name
    return None


def _near(given: _Array, expected: _Array) -> _Array:
    near: _Array = np.abs(given - expected) <= _TOLERANCE * (1 + np.abs(expected))
    return near


def _shift_of_mask(active: _Array, drawn: _Array) -> str | None:
    """Return which way the active positions are shifted from the sampled ones by one."""
    before = np.append(drawn[1:], False) & ~drawn
    first = drawn & ~np.append(False, drawn[:-1])
    if not active.any() or not before.any():
        return None
    if (active == (drawn & ~first)).all():
        return "late"
    is_early = (active & before == before).all() and not (active & ~drawn & ~before).any()
    return "early" if is_early else None
