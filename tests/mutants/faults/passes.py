"""Faults of forward and backward passes: masks, weights, sums, order, what a pass leaves behind."""

from __future__ import annotations

from typing import Final

from tests.mutants.editing import Edit
from tests.mutants.mutant import Mutant

_TRAINER: Final = "loops_mock.trainer:MockTrainer"
_PASSES: Final = "loops_mock.passes"
_OUTPUTS: Final = "loops_mock.outputs"
_ROWS: Final = "loops_core.protocols.rows"

PASSES: Final = (
    Mutant(
        "passes.forward-touches-gradients",
        "evaluating between two steps changes the next step: forward adds gradients",
        "mock-backend",
        (
            Edit(
                f"{_TRAINER}.forward",
                "return make_output(result, loss.function, settings, top_k=top_k_logprobs)",
                "return self.forward_backward("
                "data, loss_fn=loss_fn, loss_fn_config=loss_fn_config)",
            ),
        ),
    ),
    Mutant(
        "passes.gradients-erased",
        "of several forward_backward calls before a step only the last one counts",
        "mock-backend",
        (
            Edit(
                f"{_TRAINER}.forward_backward",
                "None if pending is None else pending.gradient",
                "None",
            ),
        ),
    ),
    Mutant(
        "passes.last-datum-only",
        "a batch trains on its last example only",
        "mock-backend",
        (
            Edit(
                f"{_TRAINER}.forward_backward",
                "added if gradient is None else add_gradients(gradient, added)",
                "added",
            ),
        ),
    ),
    Mutant(
        "passes.last-count-only",
        "accumulating over micro-batches gives too large a step: only the last one's tokens count",
        "mock-backend",
        (
            Edit(
                f"{_TRAINER}.forward_backward",
                "Pending(gradient, before + result.num_active, skip)",
                "Pending(gradient, result.num_active, skip)",
            ),
        ),
    ),
    Mutant(
        "passes.masked-counted",
        "examples with long masked prompts learn too slowly: masked positions are counted",
        "mock-backend",
        (
            Edit(
                f"{_ROWS}:Row.num_active",
                "int(np.count_nonzero(active))",
                "len(self.tokens)",
            ),
        ),
    ),
    Mutant(
        "passes.masked-trained",
        "the model learns to write the prompts: masked positions have gradients",
        "mock-backend",
        (
            Edit(
                f"{_PASSES}:run_backward",
                "np.where(row.active, slope * derivative, 0.0)",
                "np.broadcast_to(slope * derivative, row.active.shape).copy()",
            ),
        ),
    ),
    Mutant(
        "passes.masked-logprobs",
        "ignored positions come back with a logprob in place of null",
        "mock-backend",
        (
            Edit(
                f"{_OUTPUTS}:_make_tensors",
                "logprobs[~row.scored] = np.nan",
                "pass",
            ),
        ),
    ),
    Mutant(
        "passes.negative-weights-clamped",
        "negative weights train nothing: they are taken for a mask",
        "mock-backend",
        (
            Edit(
                f"{_ROWS}:_read_datum",
                "np.where(active, values, 0.0)",
                "np.where(active, np.maximum(values, 0.0), 0.0)",
            ),
        ),
    ),
    Mutant(
        "passes.weights-ignored",
        "every token weighs the same whatever weights say",
        "mock-backend",
        (
            Edit(
                f"{_ROWS}:_read_datum",
                "np.where(active, values, 0.0)",
                "np.where(active, np.sign(values), 0.0)",
            ),
        ),
    ),
    Mutant(
        "passes.zero-weights-counted",
        "padding with weight 0 makes every step smaller",
        "mock-backend",
        (
            Edit(
                f"{_ROWS}:_read_datum",
                "scored if gate is None else scored & (gate != 0.0)",
                "scored",
            ),
        ),
    ),
    Mutant(
        "passes.loss-is-sum",
        "the reported loss grows with the batch: it is a sum, not the mean over active tokens",
        "mock-backend",
        (
            Edit(
                f"{_OUTPUTS}:make_output",
                "result.loss_sum / max(active, 1.0)",
                "result.loss_sum",
            ),
        ),
    ),
    Mutant(
        "passes.loss-per-datum",
        "the reported loss is divided by examples, not by tokens",
        "mock-backend",
        (
            Edit(
                f"{_OUTPUTS}:make_output",
                "result.loss_sum / max(active, 1.0)",
                "result.loss_sum / len(result.rows)",
            ),
        ),
    ),
    Mutant(
        "passes.outputs-reversed",
        "per-token outputs belong to other examples: their order is not that of the data",
        "mock-backend",
        (
            Edit(
                f"{_OUTPUTS}:make_output",
                "[_make_tensors(row, loss, top_k) for row in result.rows]",
                "[_make_tensors(row, loss, top_k) for row in result.rows][::-1]",
            ),
        ),
    ),
    Mutant(
        "passes.targets-shifted",
        "losses are too high from the start: targets are shifted once more",
        "mock-backend",
        (
            Edit(
                f"{_PASSES}:_make_result",
                "own.log_probs[at, row.targets]",
                "own.log_probs[at, np.roll(row.targets, 1, axis=0)]",
            ),
        ),
    ),
    Mutant(
        "passes.sees-the-end",
        "the loss looks wonderful and samples are bad: the first position sees the last token",
        "mock-backend",
        (
            Edit(
                "loops_mock.model:Model.windows",
                "np.full(window - 1, -1, dtype=np.int64)",
                "np.full(window - 1, tokens[-1], dtype=np.int64)",
            ),
        ),
    ),
    Mutant(
        "passes.own-token-predicted",
        "text without targets trains the model to repeat each token",
        "worker",
        (
            Edit(
                "loops_core.worker.machine:with_targets",
                "[*datum.model_input.to_ints()[1:], IGNORED_TARGET]",
                "datum.model_input.to_ints()",
            ),
        ),
    ),
    Mutant(
        "passes.skip-not-echoed",
        "custom losses are refused: skip_token_normalization is not confirmed",
        "mock-backend",
        (Edit(f"{_OUTPUTS}:make_output", "settings.get(SKIP_NORMALIZATION)", "False"),),
    ),
    Mutant(
        "passes.mixed-accepted",
        "normalised and plain sums are mixed before one step without a word",
        "mock-backend",
        (
            Edit(
                f"{_TRAINER}.forward_backward",
                "pending is not None and pending.skip_normalization != skip",
                "False",
            ),
        ),
    ),
    Mutant(
        "passes.targets-k-summed-once",
        "with K targets a position only the first of them is trained",
        "mock-backend",
        (
            Edit(
                f"{_PASSES}:run_backward",
                "range(by_column.shape[1])",
                "range(1)",
            ),
        ),
    ),
)
"""The faults of passes."""
