"""Reading a prompt, piece by piece, into a cache that all samples of its request share."""

from __future__ import annotations

from typing import final

import jax
import jax.numpy as jnp
import numpy as np

from loops_backend_jax.models.decoder import make_cache
from loops_backend_jax.models.layers import KeyValues
from loops_backend_jax.sample.cache import (
    ceil_power_of_two,
    piece_for,
    repeat_cache,
)
from loops_backend_jax.sample.decode import Policy, read_piece
from loops_backend_jax.sample.programs import Programs
from loops_backend_jax.sample.prompt import rank_candidates

PromptLogprobs = tuple[tuple[tuple[int, float], ...] | None, ...]
"""For each prompt position, the first None: (token, logprob), the actual token's first."""


@final
class PromptReader:
    """Reads all tokens of a prompt but the last, which the first decoding step reads."""

    def __init__(
        self,
        programs: Programs,
        policy: Policy,
        prompt: tuple[int, ...],
        *,
        num_slots: int,
        top_k: int | None,
    ) -> None:
        """Start with an empty cache of `num_slots`; `top_k` None: no prompt log-probabilities."""
        self._programs = programs
        self._policy = policy
        self._tokens = np.asarray(prompt, np.int32)
        self._top_k = top_k
        self._ranked: list[tuple[tuple[int, float], ...] | None] = [None]
        self._num_read = 0
        dtype = jnp.dtype(programs.settings.dtype)
        self._cache: KeyValues | None = make_cache(programs.model.config, 1, num_slots, dtype)

    @property
    def num_slots(self) -> int:
        """Return the size of the cache; 0 once it was given away."""
        return 0 if self._cache is None else self._cache.keys.shape[2]

    @property
    def is_finished(self) -> bool:
        """Return whether the cache holds the prompt."""
        return self._num_read == len(self._tokens) - 1

    @property
    def logprobs(self) -> PromptLogprobs | None:
        """Return the prompt's log-probabilities, if they were asked for."""
        return None if self._top_k is None else tuple(self._ranked)

    def share(self, num_rows: int, *, last: bool) -> KeyValues:
        """Return the prompt's cache, repeated for `num_rows` samples; `last` gives it away."""
        cache = self._cache
        assert cache is not None
        if last:
            self._cache = None
        return cache if last and num_rows == 1 else repeat_cache(cache, num_rows=num_rows)

    def read(self) -> None:
        """Read the next piece of the prompt."""
        assert self._cache is not None
        start = self._num_read
        left = len(self._tokens) - 1 - start
        piece = piece_for(left, self._programs.settings.max_prompt_piece)
        length = min(piece, left)
        tokens, targets = np.zeros((2, piece), np.int32)
        tokens[:length] = self._tokens[start : start + length]
        targets[:length] = self._tokens[start + 1 : start + 1 + length]
        self._programs.note("read_piece", piece, self.num_slots, policy=self._policy)
        hidden, self._cache = read_piece(
            self._policy,
            self._cache,
            jnp.asarray(tokens[None]),
            start,
            length,
            model=self._programs.model,
        )
        if self._top_k is not None:
            self._rank(hidden, targets, length)
        self._num_read += length

    def _rank(self, hidden: jax.Array, targets: np.ndarray, length: int) -> None:
        """Add the log-probabilities of the tokens after a piece."""
        asked = self._top_k or 0
        vocab_size = self._programs.model.config.vocab_size
        top_k = min(ceil_power_of_two(asked), vocab_size) if asked else 0
        self._programs.note("rank_candidates", len(targets), top_k, policy=self._policy)
        ranked = rank_candidates(
            self._policy,
            hidden,
            jnp.asarray(targets),
            top_k=top_k,
            max_logits_bytes=self._programs.settings.max_logits_bytes,
        )
        actual, top_tokens, top_logprobs = (np.asarray(x).tolist() for x in ranked)
        for i in range(length):
            token = int(targets[i])
            best = zip(top_tokens[i][:asked], top_logprobs[i][:asked], strict=True)
            others = [pair for pair in best if pair[0] != token]
            self._ranked.append(((token, actual[i]), *others))
