"""What goes to a sampler and comes back."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field, JsonValue

from loops_core.types.base import WireModel
from loops_core.types.datum import ExternalRef, ModelInputChunk

StopReason = Literal["stop", "length"]
"""Why a sequence ended: at a stop, or at `max_tokens` or the end of the context."""


class SamplingParams(WireModel):
    """How to draw tokens.

    Attributes:
        max_tokens: most new tokens; None = what is left of the model's context.
        seed: makes the tokens a function of (seed, number of the sample, position); None draws one.
        stop: strings or token ids that end a sequence; a token is part of it, a string is not.
        temperature: divides the logits; 0 takes the most likely token.
        top_k: keep the k most likely tokens; <= 0 keeps all.
        top_p: keep the fewest tokens whose probabilities sum to top_p; 1 keeps all.
        structured_outputs: a grammar that the text must follow.
    """

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None
    stop: str | list[str] | list[int] | None = None
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    top_k: int = -1
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    structured_outputs: dict[str, JsonValue] | None = None


class SampledSequence(WireModel):
    """One sequence of new tokens.

    Attributes:
        tokens: the new token ids, without the prompt.
        logprobs: natural-log probability of each token under the raw distribution.
        stop_reason: why it ended.
        text: the tokens as text, where the model has a tokenizer.
        routed_experts: the routing of a mixture-of-experts model, to be replayed.
    """

    tokens: list[int] = Field(default_factory=list[int])
    logprobs: list[float] | None = None
    stop_reason: StopReason = "length"
    text: str | None = None
    routed_experts: ExternalRef | None = Field(
        default=None,
        validation_alias=AliasChoices("routed_experts_ref", "routed_experts"),
        serialization_alias="routed_experts_ref",
    )


class SampleResponse(WireModel):
    """The result of `sample`.

    Attributes:
        sequences: one per sample, in order.
        policy_version: the version of the weights that answered; 0 is the base model.
        prompt_token_ids: the prompt as the sampler read it.
        prompt_logprobs: logprob of each prompt token given those before it; the first is None.
        topk_prompt_logprobs: `(token, logprob)` pairs for each prompt position; the first is None.
    """

    sequences: list[SampledSequence] = Field(default_factory=list[SampledSequence])
    policy_version: int | None = None
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: list[float | None] | None = None
    topk_prompt_logprobs: list[list[tuple[int, float]] | None] | None = None


SampleResult = SampleResponse
"""The name of SampleResponse in older documentation."""


class SampleBody(WireModel):
    """The body of `POST /sample`: a completions request over token ids."""

    prompt: list[int]
    n: Annotated[int, Field(ge=1)] = 1
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    logprobs: int = 0
    return_tokens_as_token_ids: bool = True
    prompt_logprobs: Annotated[int, Field(ge=0)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None
    top_k: int | None = None
    stop_token_ids: list[int] | None = None
    stop: str | list[str] | None = None
    structured_outputs: dict[str, JsonValue] | None = None
    include_routed_experts: bool | None = None
    model_input_chunks: list[ModelInputChunk] | None = None
    return_token_ids: bool | None = None
    model: str | None = None
    lora: str | None = None


class PromptLogprob(WireModel):
    """One candidate token at a prompt position."""

    logprob: float
    decoded_token: str | None = None
    rank: int | None = None


class ChoiceLogprobs(WireModel):
    """The chosen tokens, as `token_id:<int>` markers, and their log-probabilities."""

    tokens: list[str | int] = Field(default_factory=list[str | int])
    token_logprobs: list[float] = Field(default_factory=list[float])


class CompletionChoice(WireModel):
    """One sequence in the completions shape."""

    index: int = 0
    text: str | None = None
    finish_reason: StopReason | None = None
    logprobs: ChoiceLogprobs | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | None = None
    routed_experts_ref: ExternalRef | None = None


class Completions(WireModel):
    """The answer of `POST /sample`; `policy_version` travels as a header over HTTP."""

    choices: list[CompletionChoice] = Field(default_factory=list[CompletionChoice])
    seed: int | None = None
    policy_version: int | None = Field(default=None, exclude=True)
