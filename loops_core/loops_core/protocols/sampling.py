"""What a sampler is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NewType, Protocol

from loops_core.types.sampling import StopReason

SamplerFeature = Literal["top_k", "top_p", "stop_strings", "prompt_logprobs", "structured_outputs"]
"""What a sampler may or may not offer beyond temperature, seed, stop token ids and max_tokens."""

SampleHandle = NewType("SampleHandle", int)
"""A sampler's name for a request under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerSpec:
    """What a sampler should be opened on; fields as in `TrainerSpec`."""

    base_model: str
    model_dir: Path
    max_seq_len: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerDescription:
    """What a sampler is and can do; requests are checked against this.

    Attributes:
        vocab_size: token ids are in [0, vocab_size).
        max_seq_len: most positions of prompt and new tokens together.
        features: what is offered; the rest is refused by name.
        has_tokenizer: whether text can be returned and stop strings matched.
    """

    vocab_size: int
    max_seq_len: int
    features: frozenset[SamplerFeature] = frozenset()
    has_tokenizer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRequest:
    """One request to a sampler.

    Attributes:
        prompt: token ids, at least one.
        adapter_id: loaded weights that answer; None = the base model.
        num_samples: how many sequences to draw.
        max_tokens: most new tokens of a sequence; None = what is left of the context.
        temperature: divides the logits; 0 takes the most likely token.
        top_k: keep the k most likely tokens; None = all.
        top_p: keep the fewest tokens whose probabilities sum to top_p.
        stop_token_ids: ids that end a sequence, besides the model's own end-of-sequence ids.
        stop_strings: texts that end a sequence; not part of it.
        seed: the random key of a token is a function of (seed, number of the sample, position).
        top_k_prompt_logprobs: None = no prompt logprobs; k = those of the actual tokens and of the
            k most likely.
    """

    prompt: tuple[int, ...]
    adapter_id: str | None
    seed: int
    num_samples: int = 1
    max_tokens: int | None = None
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    stop_token_ids: tuple[int, ...] = ()
    stop_strings: tuple[str, ...] = ()
    top_k_prompt_logprobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledTokens:
    """One drawn sequence.

    Attributes:
        tokens: new token ids; an end-of-sequence or stop token is part of it, a stop string is not.
        logprobs: natural log under the raw distribution (temperature 1, nothing cut), per token.
        stop_reason: why it ended.
        text: the tokens decoded without special tokens; None without a tokenizer.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop_reason: StopReason
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOutcome:
    """A finished request: sequences, or the error that ended it.

    Attributes:
        handle: which request.
        sequences: one per sample, in order.
        prompt_logprobs: (token, logprob) pairs for each prompt position, the actual token's first;
            the first position is None.
        error: what went wrong; then there are no sequences.
    """

    handle: SampleHandle
    sequences: tuple[SampledTokens, ...] = ()
    prompt_logprobs: tuple[tuple[tuple[int, float], ...] | None, ...] | None = None
    error: Exception | None = None


class Sampler(Protocol):
    """An engine that draws tokens with one base model and any number of resident adapters.

    Turned by one thread at a time: `submit` queues a request, `step` does a bounded piece of work
    and returns what finished. A request keeps the adapter it named to its end.
    """

    def describe(self) -> SamplerDescription:
        """Return what this sampler is; constant over its life."""
        ...

    def load_adapter(self, adapter_id: str, path: Path) -> None:
        """Make the PEFT adapter at `path` resident under `adapter_id`; a loaded id stays as it is.

        Raises:
            CheckpointError: the files are damaged or do not fit the base model.
        """
        ...

    def drop_adapter(self, adapter_id: str) -> None:
        """Forget an adapter once no request uses it; an unknown id is no error."""
        ...

    def submit(self, request: SampleRequest) -> SampleHandle:
        """Queue a request and return its handle.

        Raises:
            NotFoundError: no adapter is loaded under that id.
        """
        ...

    def cancel(self, handle: SampleHandle) -> None:
        """End a request without an outcome; a finished or unknown one is no error."""
        ...

    def step(self) -> list[SampleOutcome]:
        """Advance the requests under way and return those that finished; [] when there are none."""
        ...

    def close(self) -> None:
        """Give back memory; may be called twice."""
        ...
