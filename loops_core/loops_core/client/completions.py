"""Sampling in the completions shape: the request's body, and its answer read back; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from loops_core.client.arguments import check_int, check_type, shown, usage_errors
from loops_core.errors import RemoteOpError, UsageError
from loops_core.types.datum import EncodedTextChunk, ModelInput
from loops_core.types.sampling import (
    CompletionChoice,
    Completions,
    PromptLogprob,
    SampleBody,
    SampledSequence,
    SampleResponse,
    SamplingParams,
)

_MARKER: Final = "token_id:"


def sample_body(
    prompt: ModelInput,
    *,
    num_samples: int,
    sampling_params: SamplingParams | None,
    include_prompt_logprobs: bool,
    topk_prompt_logprobs: int,
    include_routed_experts: bool | None,
) -> SampleBody:
    """Return the body of a `sample` call.

    Raises:
        UsageError: an argument is wrong.
    """
    check_type("prompt", prompt, ModelInput)
    check_int("num_samples", num_samples, minimum=1)
    check_int("topk_prompt_logprobs", topk_prompt_logprobs, minimum=0)
    check_type("include_prompt_logprobs", include_prompt_logprobs, bool)
    if prompt.length == 0:
        raise UsageError("prompt must hold at least one token", field="prompt")
    given = check_type("sampling_params", sampling_params or SamplingParams(), SamplingParams)
    is_text = all(isinstance(chunk, EncodedTextChunk) for chunk in prompt.chunks)
    stop_ids, stop_texts = _stops(given.stop)
    with usage_errors("sampling_params."):
        return SampleBody(
            prompt=prompt.to_ints() if is_text else [],
            model_input_chunks=None if is_text else prompt.chunks,
            return_token_ids=None if is_text else True,
            n=num_samples,
            temperature=given.temperature,
            top_p=given.top_p,
            top_k=given.top_k if given.top_k > 0 else None,
            max_tokens=given.max_tokens,
            seed=given.seed,
            stop_token_ids=stop_ids,
            stop=stop_texts,
            structured_outputs=given.structured_outputs,
            prompt_logprobs=topk_prompt_logprobs if include_prompt_logprobs else None,
            include_routed_experts=include_routed_experts,
        )


def _stops(
    stop: str | list[str] | list[int] | None,
) -> tuple[list[int] | None, str | list[str] | None]:
    """Return the stops as (token ids, texts), one of which is None."""
    if isinstance(stop, list):
        ids = [token for token in stop if isinstance(token, int)]
        return (ids, None) if ids else (None, [text for text in stop if isinstance(text, str)])
    return None, stop


def read_completions(answer: Completions, body: SampleBody) -> SampleResponse:
    """Return the answer as the client's own type.

    Raises:
        RemoteOpError: the answer does not have the shape that was asked for.
    """
    if len(answer.choices) != body.n:
        raise RemoteOpError(
            f"the sampler answered {len(answer.choices)} sequences, {body.n} were asked for"
        )
    prompt = _prompt_of(answer, body)
    wire = next((c.prompt_logprobs for c in answer.choices if c.prompt_logprobs is not None), None)
    top_k = body.prompt_logprobs or 0
    return SampleResponse(
        sequences=[_read_choice(choice, body) for choice in answer.choices],
        policy_version=answer.policy_version,
        prompt_token_ids=prompt,
        prompt_logprobs=None if wire is None else _actual(wire, prompt),
        topk_prompt_logprobs=None if wire is None or top_k == 0 else [_pairs(row) for row in wire],
    )


def _prompt_of(answer: Completions, body: SampleBody) -> list[int] | None:
    told = next((c.prompt_token_ids for c in answer.choices if c.prompt_token_ids), None)
    return told or body.prompt or None


def _read_choice(choice: CompletionChoice, body: SampleBody) -> SampledSequence:
    logprobs = choice.logprobs
    tokens = choice.token_ids or ([] if logprobs is None else _from_markers(logprobs.tokens))
    values = None if logprobs is None else logprobs.token_logprobs
    echoed = 0 if choice.token_ids else _echoed(tokens, body)
    if values is not None and len(values) != len(tokens):
        raise RemoteOpError(
            f"the sampler answered {len(values)} log-probabilities for {len(tokens)} tokens"
        )
    return SampledSequence(
        tokens=tokens[echoed:],
        logprobs=None if values is None else values[echoed:],
        stop_reason=choice.finish_reason or "length",
        text=choice.text,
        routed_experts=choice.routed_experts_ref,
    )


def _echoed(tokens: Sequence[int], body: SampleBody) -> int:
    """Return how many leading tokens are an echo of the prompt.

    A completion may begin with a copy of its prompt, so equality proves nothing: only an answer
    longer than was asked for can hold an echo, which was never asked for.
    """
    size = len(body.prompt)
    too_long = body.max_tokens is not None and len(tokens) > body.max_tokens
    return size if too_long and size > 0 and list(tokens[:size]) == body.prompt else 0


def _from_markers(markers: Sequence[str | int]) -> list[int]:
    tokens: list[int] = []
    for marker in markers:
        text = str(marker).removeprefix(_MARKER)
        if not text.isascii() or not text.isdigit():
            raise RemoteOpError(
                f"the sampler answered the token {shown(marker)}: expected {_MARKER}<id>"
            )
        tokens.append(int(text))
    return tokens


def _actual(
    wire: Sequence[dict[str, PromptLogprob] | None], prompt: Sequence[int] | None
) -> list[float | None]:
    """Return the log-probability of each prompt token itself."""
    if prompt is None or len(prompt) != len(wire):
        raise RemoteOpError(
            f"the sampler answered {len(wire)} prompt_logprobs for a prompt of "
            f"{len(prompt or ())} tokens"
        )
    values: list[float | None] = []
    for position, (row, token) in enumerate(zip(wire, prompt, strict=True)):
        entry = None if row is None else row.get(str(token))
        if row is not None and entry is None:
            raise RemoteOpError(f"prompt_logprobs[{position}] lacks the prompt's own token {token}")
        values.append(None if entry is None else entry.logprob)
    return values


def _pairs(row: dict[str, PromptLogprob] | None) -> list[tuple[int, float]] | None:
    return None if row is None else [(int(token), entry.logprob) for token, entry in row.items()]
