"""The audit of policies: whether samples came from the weights that are trained on them.

The calls alone answer two questions. When a sample was asked for: how many optimizer steps had the
trainer been given since the weights that answered? And when a sampled sequence is trained on: how
many newer policies had been published since the one that drew it?
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import final

from loops_core.types.operation import OperationKind
from loops_mock.watching.events import Example, Sampled, Submitted
from loops_mock.watching.finding import Finding, Mistake
from loops_mock.watching.history import History
from loops_mock.watching.program import Program


def stale_policies(program: Program, *, max_lag: int) -> list[Finding]:
    """Return a finding for each sample, and each pass over samples, of a policy too far behind.

    Prompts that are only scored may be scored by any weights: a reference model is old on purpose.
    Samples of a checkpoint that was asked for by its address count once they are trained on.
    """
    findings: list[Finding] = []
    for run, operations in program.operations.items():
        history = History.of(operations, program.outcomes)
        samples = [
            sample for sample in program.samples if sample.run_id == run and not sample.is_scoring
        ]
        findings += _stale_samples(samples, history, max_lag)
        findings += _stale_passes(operations, samples, history, max_lag)
    return findings


def _stale_samples(samples: Iterable[Sampled], history: History, max_lag: int) -> Iterator[Finding]:
    for sample in samples:
        lag = history.steps_behind(sample)
        if lag <= max_lag or sample.is_pinned:
            continue
        newest = history.newest_before(sample.number)
        is_newest = newest is None or newest.version == sample.version
        advice = (
            "publish after the optimizer step, with save_weights_and_get_sampling_client, and "
            "sample from what it returns"
            if is_newest
            else f"policy version {newest.version if newest else 0} was being published: wait for "
            "its future, and sample from the client that it returns"
        )
        yield Finding(
            mistake=Mistake.STALE_POLICY,
            operation="sample",
            position=sample.number,
            place=sample.place,
            message=f"{sample.name} ({sample.where}) was answered by policy version "
            f"{sample.version}, {_counted(lag, 'optimizer step')} behind the trainer: {advice}",
        )


def _stale_passes(
    operations: Iterable[Submitted], samples: Iterable[Sampled], history: History, max_lag: int
) -> Iterator[Finding]:
    drawn = _Drawn(samples)
    for operation in operations:
        if operation.kind is not OperationKind.FORWARD_BACKWARD:
            continue
        behind: list[tuple[int, Sampled]] = []
        for sample in drawn.sources(operation):
            lag = history.versions_behind(sample, operation.number)
            if sample.is_pinned:  # nobody judged it when it was asked for
                lag = max(lag, history.steps_behind(sample))
            if lag > max_lag:
                behind.append((lag, sample))
        if behind:
            yield _stale_pass(operation, behind)


def _stale_pass(operation: Submitted, behind: list[tuple[int, Sampled]]) -> Finding:
    lag, sample = max(behind, key=lambda pair: pair[0])
    data = _counted(len(operation.examples), "datum")
    return Finding(
        mistake=Mistake.STALE_POLICY,
        operation=operation.kind.value,
        position=operation.number,
        place=operation.place,
        message=f"{operation.name} ({operation.where}) trains on samples of policies that are too "
        f"old, in {len(behind)} of {data}: {sample.name} ({sample.where}) was drawn by policy "
        f"version {sample.version}, {_counted(lag, 'policy')} behind; sample anew after each "
        "publish, or allow the lag",
    )


@final
class _Drawn:
    """Sampled sequences by their tokens; of those that drew the same, the last before a pass."""

    def __init__(self, samples: Iterable[Sampled]) -> None:
        self._by_tokens: dict[bytes, list[Sampled]] = {}
        for sample in samples:
            for tokens in sample.sequences:
                self._by_tokens.setdefault(tokens, []).append(sample)
        self._sizes = sorted({len(tokens) for tokens in self._by_tokens}, reverse=True)

    def sources(self, operation: Submitted) -> Iterator[Sampled]:
        """Yield, for each datum that begins with a sampled sequence, the sample that drew it."""
        for example in operation.examples:
            sample = self._source(example, before=operation.number)
            if sample is not None:
                yield sample

    def _source(self, example: Example, *, before: int) -> Sampled | None:
        for size in self._sizes:
            found = (
                self._by_tokens.get(example.tokens[:size]) if size <= len(example.tokens) else None
            )
            earlier = [sample for sample in found or () if sample.number < before]
            if earlier:
                return earlier[-1]
        return None


def _counted(number: int, noun: str) -> str:
    plural = {"datum": "data", "policy": "policies"}.get(noun, f"{noun}s")
    return f"{number} {noun if number == 1 else plural}"
