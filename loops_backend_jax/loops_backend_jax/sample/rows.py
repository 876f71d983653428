"""Samples of one request that are decoded side by side."""

from __future__ import annotations

import dataclasses
from typing import final

import jax.numpy as jnp
import numpy as np

from loops_backend_jax.models.layers import KeyValues
from loops_backend_jax.sample.cache import grow_cache, slots_for
from loops_backend_jax.sample.decode import Policy, Rows, decode_steps
from loops_backend_jax.sample.draw import sample_keys, seed_key
from loops_backend_jax.sample.logits import DrawSettings
from loops_backend_jax.sample.programs import Programs
from loops_backend_jax.sample.stops import find_string_stop
from loops_backend_jax.sample.text import TextDecoder
from loops_core.errors import CheckpointError
from loops_core.protocols import SampledTokens, SampleRequest
from loops_core.types.sampling import StopReason


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Ends:
    """What ends the sequences of a request besides their length.

    Attributes:
        token_ids: [vocab], True for the model's and the caller's stop tokens.
        decoder: the model's tokenizer; None without one.
    """

    token_ids: np.ndarray
    decoder: TextDecoder | None


@final
@dataclasses.dataclass(slots=True)
class _Sequence:
    """One sample so far; finished when it has a `stop_reason`."""

    tokens: list[int] = dataclasses.field(default_factory=list[int])
    logprobs: list[float] = dataclasses.field(default_factory=list[float])
    stop_reason: StopReason | None = None
    text: str | None = None


@final
class RowGroup:
    """A few samples of one request, in lockstep: unfinished ones are equally long."""

    def __init__(
        self,
        programs: Programs,
        policy: Policy,
        request: SampleRequest,
        numbers: range,
        cache: KeyValues,
        *,
        max_tokens: int,
        ends: Ends,
    ) -> None:
        """Start the samples `numbers` on a cache that holds the prompt without its last token.

        The cache may have more rows than there are samples; the rest is padding.
        """
        self._programs, self._policy, self._request = programs, policy, request
        self._cache, self._ends = cache, ends
        self._max_tokens = max_tokens
        self._num_drawn = 0
        self._sequences = [_Sequence() for _ in numbers]
        num_rows, first = self.num_rows, numbers.start
        self._keys = sample_keys(seed_key(request.seed), np.arange(first, first + num_rows))
        vocab_size = programs.model.config.vocab_size
        top_k = vocab_size if request.top_k is None else min(request.top_k, vocab_size)
        self._settings = DrawSettings(
            jnp.full(num_rows, request.temperature, jnp.float32),
            jnp.full(num_rows, top_k, jnp.int32),
            jnp.full(num_rows, request.top_p, jnp.float32),
        )

    @property
    def is_finished(self) -> bool:
        """Return whether all samples have ended."""
        return all(sequence.stop_reason is not None for sequence in self._sequences)

    @property
    def num_rows(self) -> int:
        """Return how many rows the cache has."""
        return self._cache.keys.shape[1]

    @property
    def num_slots(self) -> int:
        """Return how many tokens the cache has room for."""
        return self._cache.keys.shape[2]

    @property
    def next_slots(self) -> int:
        """Return how many slots the cache needs for the next steps."""
        steps = min(self._num_drawn + self._programs.settings.decode_steps, self._max_tokens)
        limit = self._programs.max_seq_len
        return max(self.num_slots, slots_for(len(self._request.prompt) - 1 + steps, limit))

    def decode(self) -> None:
        """Draw the next tokens of all unfinished samples.

        Raises:
            CheckpointError: the weights give no probabilities, or the tokenizer cannot be read.
        """
        slots = self.next_slots
        if slots > self.num_slots:
            self._cache = grow_cache(self._cache, num_slots=slots)
        num_rows = self.num_rows
        self._programs.note("decode_steps", num_rows, slots, policy=self._policy)
        drawn, self._cache = decode_steps(
            self._policy,
            self._cache,
            self._rows(num_rows),
            jnp.asarray(self._ends.token_ids),
            model=self._programs.model,
            num_steps=self._programs.settings.decode_steps,
        )
        tokens, logprobs = np.asarray(drawn.tokens), np.asarray(drawn.logprobs)
        if not np.isfinite(logprobs).all():
            raise _no_probabilities(self._request)
        for row, sequence in enumerate(self._sequences):
            num_new = int(np.count_nonzero(tokens[:, row] >= 0))
            if num_new:
                sequence.tokens += tokens[:num_new, row].tolist()
                sequence.logprobs += logprobs[:num_new, row].tolist()
                self._end(sequence)
        self._num_drawn = max(len(sequence.tokens) for sequence in self._sequences)

    def results(self) -> list[SampledTokens]:
        """Return the finished samples, in order."""
        return [
            SampledTokens(
                tokens=tuple(sequence.tokens),
                logprobs=tuple(sequence.logprobs),
                stop_reason=sequence.stop_reason or "length",
                text=self._text(sequence),
            )
            for sequence in self._sequences
        ]

    def _rows(self, num_rows: int) -> Rows:
        """Return what the program reads of the samples; finished ones stand at their limit."""
        prompt = self._request.prompt
        limit = len(prompt) - 1 + self._max_tokens
        tokens = np.zeros(num_rows, np.int32)
        positions = np.full(num_rows, limit, np.int32)
        for row, sequence in enumerate(self._sequences):
            if sequence.stop_reason is None:
                tokens[row] = sequence.tokens[-1] if sequence.tokens else prompt[-1]
                positions[row] = len(prompt) - 1 + len(sequence.tokens)
        limits = np.full(num_rows, limit, np.int32)
        return Rows(
            jnp.asarray(tokens),
            jnp.asarray(positions),
            jnp.asarray(limits),
            self._keys,
            self._settings,
        )

    def _end(self, sequence: _Sequence) -> None:
        """Set the stop reason of a sequence that has ended, and cut what is behind its stop."""
        at_token = bool(self._ends.token_ids[sequence.tokens[-1]])
        if at_token:
            sequence.stop_reason = "stop"
        elif len(sequence.tokens) == self._max_tokens:
            sequence.stop_reason = "length"
        if not self._request.stop_strings or self._ends.decoder is None:
            return
        searched = sequence.tokens[:-1] if at_token else sequence.tokens
        found = find_string_stop(searched, self._request.stop_strings, self._ends.decoder)
        if found is not None:
            sequence.stop_reason, sequence.text = "stop", found.text
            del sequence.tokens[found.num_tokens :], sequence.logprobs[found.num_tokens :]

    def _text(self, sequence: _Sequence) -> str | None:
        if sequence.text is None and self._ends.decoder is not None:
            return self._ends.decoder.decode(sequence.tokens, special=False)
        return sequence.text


def _no_probabilities(request: SampleRequest) -> CheckpointError:
    weights = "the base model" if request.adapter_id is None else f"adapter {request.adapter_id!r}"
    return CheckpointError(
        f"the logits of {weights} hold NaN or infinity; expected finite numbers; the weights are"
        " damaged or have diverged"
    )
