"""Results as plain values that can be compared, and what must be true of one result alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from loops_core.types.sampling import SampledSequence
from loops_core.types.training import IGNORED_TARGET, ForwardBackwardOutput
from loops_mock.contract.rule import expect, expect_equal
from loops_mock.strategies.program import Pass, Sample, say


def comparable(result: Any) -> object:
    """Return what must be equal wherever a result must be: numbers, null for NaN."""
    if isinstance(result, ForwardBackwardOutput):
        rows = [
            {name: [_plain(value) for value in tensor.tolist()] for name, tensor in row.items()}
            for row in result.loss_fn_outputs
        ]
        return (result.loss, rows)
    return result.model_dump()


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def check_output(call: Pass, output: ForwardBackwardOutput) -> None:
    """Check the shape of a pass's result, and that the loss is what its log-probabilities say.

    Raises:
        CheckFailed: it is not as it must be.
    """
    told = say(call)
    expect_equal(len(output.loss_fn_outputs), len(call.rows), f"the number of outputs of {told}")
    total, num_active = 0.0, 0
    for row, tensors in zip(call.rows, output.loss_fn_outputs, strict=True):
        logprobs = tensors["logprobs"].to_numpy().astype(np.float64)
        expect_equal(logprobs.shape, (len(row.targets),), f"the shape of logprobs of {told}")
        ignored = np.asarray(row.targets) == IGNORED_TARGET
        expect(
            bool((np.isnan(logprobs) == ignored).all()),
            f"logprobs of {told} are null where the target is ignored, and only there",
            targets=row.targets,
            logprobs=logprobs.tolist(),
        )
        expect(not (logprobs > 1e-6).any(), f"logprobs of {told} are at most 0", seen=logprobs)
        active = np.asarray(row.active())
        weights = np.asarray(dict(row.inputs).get("weights", (1.0,) * len(active)))
        total -= float((logprobs * weights)[active].sum())
        num_active += int(active.sum())
    if call.loss_fn == "cross_entropy":
        mean = total / num_active
        # The loss is summed in float32 by some; its terms are those that are returned.
        near = math.isclose(output.loss, mean, rel_tol=1e-4, abs_tol=1e-4)
        expect(near, f"the loss of {told} is the mean over its active positions", seen=output.loss)


def check_samples(call: Sample, sequences: Sequence[SampledSequence]) -> None:
    """Check how many sequences there are, how long they are, and that greedy ones are alike.

    Raises:
        CheckFailed: they are not as they must be.
    """
    told = say(call)
    expect_equal(len(sequences), call.num_samples, f"the number of sequences of {told}")
    for sequence in sequences:
        num = len(sequence.tokens)
        expect(1 <= num <= call.max_tokens, f"{told} gives 1 to max_tokens tokens", seen=num)
        full = num == call.max_tokens or sequence.stop_reason == "stop"
        expect(full, f"{told} ends for its reason", seen=sequence.stop_reason)
        logprobs = sequence.logprobs or []
        expect_equal(len(logprobs), num, f"the number of logprobs of {told}")
        expect(all(each <= 1e-6 for each in logprobs), f"logprobs of {told} are at most 0")
    if call.temperature == 0:
        alike = all(sequence.tokens == sequences[0].tokens for sequence in sequences)
        expect(alike, f"at temperature 0 all sequences of {told} are alike")
