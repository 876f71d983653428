"""What a request may ask of a sampler, checked before anything is queued."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from loops_core.errors import UnsupportedError, UsageError
from loops_core.protocols.sampling import SamplerDescription, SampleRequest, SamplerFeature

MAX_TEMPERATURE: Final = float(np.finfo(np.float32).max)


def check_request(request: SampleRequest, sampler: SamplerDescription) -> int:
    """Return how many tokens each sample draws at most.

    Raises:
        UsageError: a field that this sampler cannot serve; the message names it and the limit.
        UnsupportedError: stop strings without a tokenizer, or a feature that is not offered.
    """
    for complaint in _complaints(request, sampler):
        raise complaint
    room = sampler.max_seq_len - len(request.prompt)
    if request.max_tokens is None:
        return room
    if request.max_tokens > room:
        raise UsageError(
            f"max_tokens is {request.max_tokens}; expected at most {room}: the prompt has"
            f" {len(request.prompt)} tokens, the context {sampler.max_seq_len}; ask for less, or"
            " leave it out",
            field="max_tokens",
        )
    return request.max_tokens


def _complaints(request: SampleRequest, sampler: SamplerDescription) -> Iterator[UsageError]:
    """Yield what is wrong, field by field."""
    vocab_size, longest = sampler.vocab_size, sampler.max_seq_len - 1
    if not 1 <= len(request.prompt) <= longest:
        yield _wrong("prompt", f"{len(request.prompt)} tokens long", f"1 to {longest}")
    for field in ("prompt", "stop_token_ids"):
        tokens: tuple[int, ...] = getattr(request, field)
        outside = next((t for t in tokens if not 0 <= t < vocab_size), None)
        if outside is not None:
            yield _wrong(field, f"{outside} at one place", f"token ids from 0 to {vocab_size - 1}")
    if request.num_samples < 1:
        yield _wrong("num_samples", request.num_samples, "at least 1")
    if request.max_tokens is not None and request.max_tokens < 1:
        yield _wrong("max_tokens", request.max_tokens, "at least 1, or None")
    if not 0 <= request.temperature <= MAX_TEMPERATURE:
        yield _wrong("temperature", request.temperature, f"0 to {MAX_TEMPERATURE:.2g}")
    if request.top_k is not None and request.top_k < 1:
        yield _wrong("top_k", request.top_k, "at least 1, or None")
    if not 0 < request.top_p <= 1:
        yield _wrong("top_p", request.top_p, "more than 0 and at most 1")
    candidates = request.top_k_prompt_logprobs
    if candidates is not None and not 0 <= candidates <= vocab_size:
        yield _wrong("top_k_prompt_logprobs", candidates, f"0 to {vocab_size}, or None")
    if "" in request.stop_strings:
        yield _wrong("stop_strings", repr(""), "texts of at least one character")
    yield from _missing_features(request, sampler)
    if request.stop_strings and not sampler.has_tokenizer:
        yield UnsupportedError(
            f"stop_strings are {request.stop_strings!r}; expected none: the model's directory has"
            " no tokenizer; use stop_token_ids",
            field="stop_strings",
        )


def _missing_features(
    request: SampleRequest, sampler: SamplerDescription
) -> Iterator[UnsupportedError]:
    asked: dict[SamplerFeature, tuple[str, object]] = {}
    if request.top_k is not None:
        asked["top_k"] = ("top_k", request.top_k)
    if request.top_p < 1:
        asked["top_p"] = ("top_p", request.top_p)
    if request.stop_strings:
        asked["stop_strings"] = ("stop_strings", request.stop_strings)
    if request.top_k_prompt_logprobs is not None:
        asked["prompt_logprobs"] = ("top_k_prompt_logprobs", request.top_k_prompt_logprobs)
    for feature, (field, value) in asked.items():
        if feature not in sampler.features and (feature != "stop_strings" or sampler.has_tokenizer):
            yield UnsupportedError(
                f"{field} is {value!r}; expected it to be left out: this sampler offers "
                f"{', '.join(sorted(sampler.features)) or 'none of the optional features'}",
                field=field,
            )


def _wrong(field: str, value: object, expected: str) -> UsageError:
    return UsageError(f"{field} is {value}; expected {expected}", field=field)
