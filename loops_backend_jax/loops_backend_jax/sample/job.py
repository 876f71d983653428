"""One request under way: its prompt is read, then its samples are decoded, a group at a time."""

from __future__ import annotations

from typing import final

import jax.numpy as jnp

from loops_backend_jax.sample.cache import cache_bytes, ceil_power_of_two, rows_for, slots_for
from loops_backend_jax.sample.decode import Policy
from loops_backend_jax.sample.prefill import PromptReader
from loops_backend_jax.sample.programs import Programs
from loops_backend_jax.sample.rows import Ends, RowGroup
from loops_core.protocols import SampledTokens, SampleHandle, SampleOutcome, SampleRequest


@final
class SampleJob:
    """A request with the weights that were chosen for it, its caches and its results so far."""

    def __init__(
        self,
        handle: SampleHandle,
        request: SampleRequest,
        policy: Policy,
        programs: Programs,
        *,
        max_tokens: int,
        ends: Ends,
    ) -> None:
        """Take a checked request; nothing is computed or held before `advance`."""
        self.handle = handle
        self._request, self._policy, self._programs = request, policy, programs
        self._max_tokens, self._ends = max_tokens, ends
        self._prompt: PromptReader | None = None
        self._group: RowGroup | None = None
        self._results: list[SampledTokens] = []
        settings = programs.settings
        self._max_rows = rows_for(
            request.num_samples,
            self._bytes(1, self._slots(max_tokens)),
            max_rows=settings.max_sample_rows,
            max_cache_bytes=settings.max_cache_bytes,
        )

    @property
    def held_cache_bytes(self) -> int:
        """Return what the caches of this request take now."""
        size = 0 if self._prompt is None else self._bytes(1, self._prompt.num_slots)
        if self._group is not None:
            size += self._bytes(self._group.num_rows, self._group.num_slots)
        return size

    @property
    def next_cache_bytes(self) -> int:
        """Return what the caches of this request take during its next piece of work."""
        if self._prompt is None:
            return self._bytes(1, self._slots(self._programs.settings.decode_steps))
        size = self._bytes(1, self._prompt.num_slots)
        if self._group is not None:
            size += self._bytes(self._group.num_rows, self._group.next_slots)
        elif self._prompt.is_finished:
            size += self._bytes(self._next_rows(), self._prompt.num_slots)
        return size

    def advance(self) -> bool:
        """Do one bounded piece of work; return whether the request is finished.

        A piece is a part of the prompt, or a few tokens of the samples that run side by side.

        Raises:
            CheckpointError: the weights give no probabilities, or the tokenizer cannot be read.
        """
        if self._prompt is None:
            self._prompt = self._open_prompt()
        if not self._prompt.is_finished:
            self._prompt.read()
            return False
        if self._group is None:
            self._group = self._start_group(self._prompt)
        self._group.decode()
        if self._group.is_finished:
            self._results += self._group.results()
            self._group = None
        return len(self._results) == self._request.num_samples

    def outcome(self) -> SampleOutcome:
        """Return the results of a finished request."""
        return SampleOutcome(
            handle=self.handle,
            sequences=tuple(self._results),
            prompt_logprobs=None if self._prompt is None else self._prompt.logprobs,
        )

    def _open_prompt(self) -> PromptReader:
        return PromptReader(
            self._programs,
            self._policy,
            self._request.prompt,
            num_slots=self._slots(self._programs.settings.decode_steps),
            top_k=self._request.top_k_prompt_logprobs,
        )

    def _start_group(self, prompt: PromptReader) -> RowGroup:
        started, num_rows = len(self._results), self._next_rows()
        end = min(started + num_rows, self._request.num_samples)
        return RowGroup(
            self._programs,
            self._policy,
            self._request,
            range(started, end),
            prompt.share(num_rows, last=end == self._request.num_samples),
            max_tokens=self._max_tokens,
            ends=self._ends,
        )

    def _next_rows(self) -> int:
        """Return how many rows the next group has, padding included."""
        left = self._request.num_samples - len(self._results)
        return min(self._max_rows, ceil_power_of_two(left))

    def _slots(self, num_new: int) -> int:
        """Return how many slots the prompt and so many new tokens need; the last is not kept."""
        num_tokens = len(self._request.prompt) - 1 + min(num_new, self._max_tokens)
        return slots_for(num_tokens, self._programs.max_seq_len)

    def _bytes(self, num_rows: int, num_slots: int) -> int:
        dtype = jnp.dtype(self._programs.settings.dtype)
        return cache_bytes(self._programs.model.config, num_rows, num_slots, dtype)
