"""Faults of sampling: parameters that are not followed, tokens and logprobs that do not agree."""

from __future__ import annotations

from typing import Final

from tests.mutants.editing import Edit
from tests.mutants.mutant import Mutant

_SAMPLER: Final = "loops_mock.sampler:MockSampler"
_SEQUENCE: Final = "loops_mock.sampler:_Sequence"
_MOCK: Final = "loops_mock.sampler"
_DRAWING: Final = "loops_mock.drawing"
_SAMPLING: Final = "loops_core.worker.sampling"

SAMPLING: Final = (
    Mutant(
        "sample.temperature-ignored",
        "every temperature gives the same variety",
        "sampler",
        (
            Edit(f"{_DRAWING}:choose_token", "request.temperature == 0.0", "False"),
            Edit(f"{_DRAWING}:_make_weights", "request.temperature != 1.0", "False"),
        ),
    ),
    Mutant(
        "sample.zero-temperature-random",
        "temperature 0 does not take the most likely token",
        "sampler",
        (
            Edit(f"{_DRAWING}:choose_token", "request.temperature == 0.0", "False"),
            Edit(
                f"{_DRAWING}:_make_weights",
                "(logits - float(logits.max())) / request.temperature",
                "(logits - float(logits.max())) / (request.temperature or 1.0)",
            ),
        ),
    ),
    Mutant(
        "sample.seed-ignored",
        "the same seed gives other samples each time",
        "worker",
        (
            Edit(
                f"{_SAMPLING}:SamplingDesk.sample",
                "chance.draw_bits(_SEED_BITS) if body.seed is None else body.seed",
                "chance.draw_bits(_SEED_BITS)",
            ),
        ),
    ),
    Mutant(
        "sample.default-seed-fixed",
        "without a seed every call returns the same samples",
        "worker",
        (
            Edit(
                f"{_SAMPLING}:SamplingDesk.sample",
                "chance.draw_bits(_SEED_BITS) if body.seed is None else body.seed",
                "0 if body.seed is None else body.seed",
            ),
        ),
    ),
    Mutant(
        "sample.all-alike",
        "the samples of one call are copies of each other",
        "sampler",
        (
            Edit(
                f"{_SAMPLER}._draw",
                "f'loops-mock/sample/{request.seed}/{sequence.number}/{position}'",
                "f'loops-mock/sample/{request.seed}/0/{position}'",
            ),
        ),
    ),
    Mutant(
        "sample.position-ignored",
        "with a seed, a continued prompt does not go on as the first call did",
        "sampler",
        (
            Edit(
                f"{_SAMPLER}._draw",
                "len(request.prompt) + len(sequence.tokens)",
                "len(sequence.tokens)",
            ),
        ),
    ),
    Mutant(
        "sample.number-ignored",
        "one sequence comes back whatever num_samples says",
        "worker",
        (Edit(f"{_SAMPLING}:to_request", "body.n", "1"),),
    ),
    Mutant(
        "sample.one-token-too-many",
        "sequences have max_tokens + 1 tokens",
        "sampler",
        (
            Edit(
                f"{_SEQUENCE}.end",
                "len(self.tokens) >= limit",
                "len(self.tokens) > limit",
            ),
        ),
    ),
    Mutant(
        "sample.stop-ignored",
        "stop token ids do not stop",
        "worker",
        (Edit(f"{_SAMPLING}:to_request", "tuple(body.stop_token_ids or ())", "()"),),
    ),
    Mutant(
        "sample.stop-token-dropped",
        "the stop token is missing at the end of the sequence, so nobody learns to stop",
        "sampler",
        (
            Edit(
                f"{_SEQUENCE}.end",
                "found = None",
                "found = None\n"
                "if self.tokens[-1] in request.stop_token_ids:\n"
                "    self.stop_reason = 'stop'\n"
                "    self.tokens.pop()\n"
                "    self.logprobs.pop()\n"
                "    return",
            ),
        ),
    ),
    Mutant(
        "sample.reason-always-length",
        "a sequence that stopped says that it ran out of tokens",
        "sampler",
        (
            Edit(
                f"{_MOCK}:_make_outcome",
                "sequence.stop_reason or 'length'",
                "'length'",
            ),
        ),
    ),
    Mutant(
        "sample.reason-always-stop",
        "a sequence that was cut off says that it stopped by itself",
        "sampler",
        (
            Edit(
                f"{_MOCK}:_make_outcome",
                "sequence.stop_reason or 'length'",
                "'stop'",
            ),
        ),
    ),
    Mutant(
        "sample.logprobs-of-temperature",
        "importance ratios are off: logprobs are those of the tempered distribution",
        "sampler",
        (
            Edit(
                f"{_SAMPLER}._draw",
                "float(np.float32(log_probs[row, token]))",
                "float(np.float32(log_softmax(logits / (request.temperature or 1.0))[row, token]))",
            ),
        ),
    ),
    Mutant(
        "sample.logprobs-late",
        "each token carries the logprob of the one before it",
        "worker",
        (
            Edit(
                f"{_SAMPLING}:_choice",
                "list(sequence.logprobs)",
                "[0.0, *sequence.logprobs][:len(sequence.logprobs)]",
            ),
        ),
    ),
    Mutant(
        "sample.prompt-echoed",
        "sequences begin with a copy of the prompt",
        "worker",
        (
            Edit(
                f"{_SAMPLING}:_choice",
                "list(sequence.tokens)",
                "[*body.prompt, *sequence.tokens]",
            ),
            Edit(
                f"{_SAMPLING}:_choice",
                "list(sequence.logprobs)",
                "[*(0.0 for _ in body.prompt), *sequence.logprobs]",
            ),
        ),
    ),
    Mutant(
        "sample.choices-swapped",
        "the samples of one call come back in another order than their seeds say",
        "worker",
        (
            Edit(
                f"{_SAMPLING}:to_completions",
                "enumerate(answer.outcome.sequences)",
                "enumerate(answer.outcome.sequences[::-1])",
            ),
        ),
    ),
    Mutant(
        "sample.prompt-cut",
        "only the end of a prompt is read",
        "sampler",
        (
            Edit(
                f"{_MOCK}:_tail",
                "[*prompt[-window:], *tokens[-window:]][-window:]",
                "[prompt[-1], *tokens[-window:]][-window:]",
            ),
        ),
    ),
    Mutant(
        "sample.new-tokens-unseen",
        "sequences repeat themselves: the tokens drawn so far are not read",
        "sampler",
        (
            Edit(
                f"{_MOCK}:_tail",
                "[*prompt[-window:], *tokens[-window:]][-window:]",
                "[*prompt[-window:]][-window:]",
            ),
        ),
    ),
    Mutant(
        "scores.shifted",
        "prompt logprobs belong to the token after",
        "sampler",
        (
            Edit(
                f"{_SAMPLER}._prompt_logprobs",
                "(None, *entries)",
                "(*entries[:1], *entries)[:len(prompt)]",
            ),
        ),
    ),
    Mutant(
        "scores.first-is-zero",
        "the first prompt token has a logprob, where there is nothing to predict it from",
        "sampler",
        (
            Edit(
                f"{_SAMPLER}._prompt_logprobs",
                "(None, *entries)",
                "(((prompt[0], 0.0),), *entries)",
            ),
        ),
    ),
    Mutant(
        "scores.of-base-model",
        "compute_logprobs scores with the base model, whatever was published",
        "sampler",
        (
            Edit(
                f"{_SAMPLER}._prompt_logprobs",
                "job.policy.forward(windows)",
                "self._base.forward(windows)",
            ),
        ),
    ),
    Mutant(
        "scores.top-k-one-short",
        "topk_prompt_logprobs=k brings k - 1 candidates",
        "sampler",
        (
            Edit(
                f"{_MOCK}:_rank_tokens",
                "rank_tokens(log_probs, top_k).tolist()",
                "rank_tokens(log_probs, top_k)[1:].tolist()",
            ),
        ),
    ),
)
"""The faults of sampling."""
