"""The mock sampler: an engine that draws a token for every sequence under way at each turn."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

import numpy as np

from loops_core.errors import NotFoundError
from loops_core.protocols import (
    SampledTokens,
    SampleHandle,
    SampleOutcome,
    SamplerDescription,
    SampleRequest,
    SamplerFeature,
)
from loops_core.protocols.sample_checks import check_request
from loops_core.types.sampling import StopReason
from loops_mock.drawing import choose_token
from loops_mock.exact import Floats, softmax
from loops_mock.files import load_adapter
from loops_mock.model import Model, Policy
from loops_mock.outputs import rank_tokens
from loops_mock.text import find_string_stop, to_text

MAX_SEQUENCES_PER_STEP: Final = 64
"""Most tokens that one `step` draws."""

FEATURES: Final[frozenset[SamplerFeature]] = frozenset(
    {"top_k", "top_p", "stop_strings", "prompt_logprobs"}
)
"""What is offered beyond temperature, seed, stop token ids and max_tokens."""

PromptLogprobs = tuple[tuple[tuple[int, float], ...] | None, ...]


@dataclass(slots=True)
class _Sequence:
    number: int
    tokens: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    stop_reason: StopReason | None = None

    def end(self, request: SampleRequest, limit: int) -> None:
        """Note why the sequence ends with its last token, if it does.

        A stop token is part of the sequence; a stop string, and what follows it, is not.
        """
        found = None
        if self.tokens[-1] in request.stop_token_ids:
            self.stop_reason = "stop"
        elif request.stop_strings:
            found = find_string_stop(self.tokens, request.stop_strings)
        if found is not None:
            self.stop_reason = "stop"
            del self.tokens[found.num_tokens :], self.logprobs[found.num_tokens :]
        elif self.stop_reason is None and len(self.tokens) >= limit:
            self.stop_reason = "length"


@dataclass(slots=True)
class _Job:
    handle: SampleHandle
    request: SampleRequest
    policy: Policy
    limit: int
    sequences: list[_Sequence]
    prompt_logprobs: PromptLogprobs | None = None

    @property
    def wants_prompt_logprobs(self) -> bool:
        return self.request.top_k_prompt_logprobs is not None and self.prompt_logprobs is None

    @property
    def is_finished(self) -> bool:
        drawn = all(sequence.stop_reason is not None for sequence in self.sequences)
        return drawn and not self.wants_prompt_logprobs


@final
class MockSampler:
    """A `Sampler` on a `Model`; rows do not see each other, so what runs beside changes nothing.

    One `step` draws one token for each of the first 64 sequences, and computes the prompt logprobs
    of at most one request. A token is a function of (seed, number of the sample, position in the
    sequence, prompt included): a prompt and the same prompt with its own first new tokens continue
    alike.

    Logprobs are natural logs under the raw distribution, temperature 1 and nothing cut, whatever
    the request asks of the drawing: they are what the trainer's `forward` says of these tokens.
    """

    def __init__(self, model: Model, *, max_seq_len: int) -> None:
        """Stand on a model, without adapters."""
        self._model = model
        self._description = SamplerDescription(
            vocab_size=model.config.vocab_size,
            max_seq_len=max_seq_len,
            features=FEATURES,
            has_tokenizer=True,
        )
        self._base = model.prepare(None)
        self._adapters: dict[str, Policy] = {}
        self._jobs: dict[SampleHandle, _Job] = {}
        self._handles = itertools.count(1)

    def describe(self) -> SamplerDescription:
        """Return sizes and features."""
        return self._description

    def load_adapter(self, adapter_id: str, path: Path) -> None:
        """Make the adapter at `path` resident; see `Sampler.load_adapter`."""
        if adapter_id not in self._adapters:
            adapter = load_adapter(path, self._model.config)
            self._adapters[adapter_id] = self._model.prepare(adapter)

    def drop_adapter(self, adapter_id: str) -> None:
        """Forget an adapter; requests under way hold their own reference to it."""
        self._adapters.pop(adapter_id, None)

    def submit(self, request: SampleRequest) -> SampleHandle:
        """Queue a request and return its handle.

        Raises:
            NotFoundError: no adapter is loaded under that id.
            UsageError: the request asks for what this sampler cannot serve; the field is named.
        """
        policy = self._find_policy(request.adapter_id)
        limit = check_request(request, self._description)
        handle = SampleHandle(next(self._handles))
        self._jobs[handle] = _Job(
            handle,
            request,
            policy,
            limit=limit,
            sequences=[_Sequence(number) for number in range(request.num_samples)],
        )
        return handle

    def cancel(self, handle: SampleHandle) -> None:
        """Forget a request."""
        self._jobs.pop(handle, None)

    def step(self) -> list[SampleOutcome]:
        """Draw a token for each sequence under way, up to a bound, and return what finished."""
        live = [
            (job, sequence)
            for job in self._jobs.values()
            for sequence in job.sequences
            if sequence.stop_reason is None
        ][:MAX_SEQUENCES_PER_STEP]
        groups: dict[int, list[tuple[_Job, _Sequence]]] = {}
        for job, sequence in live:
            groups.setdefault(id(job.policy), []).append((job, sequence))
        for group in groups.values():
            self._draw(group)
        waiting = next((job for job in self._jobs.values() if job.wants_prompt_logprobs), None)
        if waiting is not None:
            waiting.prompt_logprobs = self._prompt_logprobs(waiting)
        finished = [job for job in self._jobs.values() if job.is_finished]
        for job in finished:
            del self._jobs[job.handle]
        return [_make_outcome(job) for job in finished]

    def close(self) -> None:
        """Forget adapters and requests."""
        self._adapters.clear()
        self._jobs.clear()

    def _find_policy(self, adapter_id: str | None) -> Policy:
        if adapter_id is not None and adapter_id not in self._adapters:
            raise NotFoundError(
                f"adapter_id {adapter_id!r} is not loaded; expected None or one of "
                f"{sorted(self._adapters)}",
                kind="adapter",
                name=adapter_id,
            )
        return self._base if adapter_id is None else self._adapters[adapter_id]

    def _draw(self, group: list[tuple[_Job, _Sequence]]) -> None:
        """Add a token to sequences that share an adapter."""
        window = self._model.config.window
        tails = [_tail(job.request.prompt, sequence.tokens, window) for job, sequence in group]
        logits = group[0][0].policy.forward(np.array(tails, dtype=np.int64)).logits
        log_probs, odds, _sums = softmax(logits)
        for row, (job, sequence) in enumerate(group):
            request = job.request
            position = len(request.prompt) + len(sequence.tokens)
            key = f"loops-mock/sample/{request.seed}/{sequence.number}/{position}"
            token = choose_token(logits[row], odds[row], request, key)
            sequence.tokens.append(token)
            sequence.logprobs.append(float(np.float32(log_probs[row, token])))
            sequence.end(request, job.limit)

    def _prompt_logprobs(self, job: _Job) -> PromptLogprobs:
        prompt, top_k = job.request.prompt, job.request.top_k_prompt_logprobs or 0
        windows = self._model.windows(np.asarray(prompt, dtype=np.int64))
        rows = softmax(job.policy.forward(windows).logits).log_probs
        entries = [_rank_tokens(rows[i], prompt[i + 1], top_k) for i in range(len(prompt) - 1)]
        return (None, *entries)


def _tail(prompt: tuple[int, ...], tokens: list[int], window: int) -> list[int]:
    """Return what the next token sees, as `Model.windows` has it: the last token first."""
    last = [*prompt[-window:], *tokens[-window:]][-window:]
    return last[::-1] + [-1] * (window - len(last))


def _rank_tokens(log_probs: Floats, actual: int, top_k: int) -> tuple[tuple[int, float], ...]:
    """Return the actual token and the k most likely ones, each once, with their logprobs."""
    best: list[int] = rank_tokens(log_probs, top_k).tolist()
    tokens = [actual, *(token for token in best if token != actual)]
    return tuple((token, float(np.float32(log_probs[token]))) for token in tokens)


def _make_outcome(job: _Job) -> SampleOutcome:
    sequences = tuple(
        SampledTokens(
            tokens=tuple(sequence.tokens),
            logprobs=tuple(sequence.logprobs),
            stop_reason=sequence.stop_reason or "length",
            text=to_text(sequence.tokens),
        )
        for sequence in job.sequences
    )
    return SampleOutcome(
        handle=job.handle, sequences=sequences, prompt_logprobs=job.prompt_logprobs
    )
