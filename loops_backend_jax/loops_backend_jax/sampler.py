"""The sampler of the JAX backend: requests, adapters, whose turn it is; `sample` has the maths."""

from __future__ import annotations

import itertools
from collections import deque
from pathlib import Path
from typing import final

import jax
import numpy as np

from loops_backend_jax.sample.decode import Policy
from loops_backend_jax.sample.job import SampleJob
from loops_backend_jax.sample.programs import Programs
from loops_backend_jax.sample.rows import Ends
from loops_backend_jax.sample.stops import end_of_sequence_ids
from loops_backend_jax.sample.text import TextDecoder, has_tokenizer
from loops_backend_jax.weights.load import BaseModel
from loops_backend_jax.weights.peft import load_peft
from loops_core.errors import LoopsError, NotFoundError, UsageError
from loops_core.protocols import (
    SampleHandle,
    SampleOutcome,
    SamplerDescription,
    SampleRequest,
    SamplerFeature,
    SamplerSpec,
)
from loops_core.protocols.sample_checks import check_request

FEATURES: frozenset[SamplerFeature] = frozenset({"top_k", "top_p", "prompt_logprobs"})
TEXT_FEATURES: frozenset[SamplerFeature] = frozenset({"stop_strings"})


@final
class JaxSampler:
    """Draws tokens with a shared frozen model; fulfils `loops_core.protocols.Sampler`.

    A step is a piece of one request's work, and requests take turns. Their caches together stay
    within `max_cache_bytes`: a request that would need more waits, except the oldest.
    """

    def __init__(self, base: BaseModel, spec: SamplerSpec) -> None:
        """Stand on a model, without adapters.

        Raises:
            UsageError: `spec.max_seq_len` is beyond what the model allows.
            CheckpointError: the directory's end-of-sequence ids cannot be read.
        """
        allowed = base.config.max_positions
        max_seq_len = allowed if spec.max_seq_len is None else spec.max_seq_len
        if not 2 <= max_seq_len <= allowed:
            raise UsageError(
                f"max_seq_len is {max_seq_len}; expected 2 to {allowed}, the model's own limit",
                field="max_seq_len",
            )
        text = has_tokenizer(spec.model_dir)
        self._description = SamplerDescription(
            vocab_size=base.config.vocab_size,
            max_seq_len=max_seq_len,
            features=FEATURES | TEXT_FEATURES if text else FEATURES,
            has_tokenizer=text,
        )
        self._base: BaseModel | None = base
        self._programs = Programs(base.model, base.settings, max_seq_len)
        self._decoder = TextDecoder(spec.model_dir) if text else None
        self._end_ids = end_of_sequence_ids(spec.model_dir)
        self._adapters: dict[str, Policy] = {}
        self._turns: deque[SampleJob] = deque()
        self._handles = itertools.count(1)

    @property
    def num_programs(self) -> int:
        """Return how many compiled programs were needed; `sample.cache.max_programs` bounds it."""
        return len(self._programs.needed)

    @property
    def num_running(self) -> int:
        """Return how many requests are neither finished nor cancelled."""
        return len(self._turns)

    @property
    def held_cache_bytes(self) -> int:
        """Return what the key-value caches of all requests take now."""
        return sum(job.held_cache_bytes for job in self._turns)

    def describe(self) -> SamplerDescription:
        """Return what this sampler is; constant over its life."""
        return self._description

    def load_adapter(self, adapter_id: str, path: Path) -> None:
        """Make the PEFT adapter at `path` resident under `adapter_id`; a loaded id stays as it is.

        Raises:
            CheckpointError: the files are damaged or do not fit the base model.
        """
        base = self._open_base()
        if adapter_id not in self._adapters:
            spec, factors = load_peft(path, base.config)
            self._adapters[adapter_id] = Policy(base.params, factors, spec.scale)

    def drop_adapter(self, adapter_id: str) -> None:
        """Forget an adapter; requests that use it hold it until they are finished."""
        self._adapters.pop(adapter_id, None)

    def submit(self, request: SampleRequest) -> SampleHandle:
        """Queue a request and return its handle.

        Raises:
            NotFoundError: no adapter is loaded under that id.
            UsageError: the request asks for what this sampler cannot serve; the field is named.
        """
        policy = self._policy(request.adapter_id)
        max_tokens = check_request(request, self._description)
        handle = SampleHandle(next(self._handles))
        ends = Ends(self._end_mask(request), self._decoder)
        job = SampleJob(handle, request, policy, self._programs, max_tokens=max_tokens, ends=ends)
        self._turns.append(job)
        return handle

    def cancel(self, handle: SampleHandle) -> None:
        """End a request without an outcome and free its memory; an unknown one is no error."""
        self._turns = deque(job for job in self._turns if job.handle != handle)

    def step(self) -> list[SampleOutcome]:
        """Do a piece of the work of the request whose turn it is; return it if it is finished."""
        if not self._turns:
            return []
        job = self._next_turn()
        try:
            if not job.advance():
                return []
            outcome = job.outcome()
        except LoopsError as error:
            outcome = SampleOutcome(handle=job.handle, error=error)
        except jax.errors.JaxRuntimeError as error:  # such as out of memory
            failure = LoopsError(f"sampling failed in the device's runtime: {error}")
            outcome = SampleOutcome(handle=job.handle, error=failure)
        self._turns.remove(job)
        return [outcome]

    def close(self) -> None:
        """Give back memory; may be called twice."""
        self._base = None
        self._adapters.clear()
        self._turns.clear()

    def _next_turn(self) -> SampleJob:
        """Return the next request in turn whose caches fit beside the others', or the oldest."""
        oldest = min(job.handle for job in self._turns)
        held, bound = self.held_cache_bytes, self._programs.settings.max_cache_bytes
        while True:
            job = self._turns[0]
            self._turns.rotate(-1)
            growth = job.next_cache_bytes - job.held_cache_bytes
            if job.handle == oldest or held + growth <= bound:
                return job

    def _end_mask(self, request: SampleRequest) -> np.ndarray:
        """Return which token ids end the request's sequences, [vocab]."""
        mask = np.zeros(self._description.vocab_size, np.bool_)
        # A model may name ids beyond its own vocabulary; they are never drawn.
        mask[[token for token in self._end_ids if 0 <= token < mask.size]] = True
        mask[list(request.stop_token_ids)] = True
        return mask

    def _policy(self, adapter_id: str | None) -> Policy:
        base = self._open_base()
        if adapter_id is None:
            return Policy(base.params)
        if adapter_id not in self._adapters:
            raise NotFoundError(
                f"adapter_id is {adapter_id!r}; expected None or a loaded one:"
                f" {', '.join(sorted(self._adapters)) or 'there is none'}",
                kind="adapter",
                name=adapter_id,
                field="adapter_id",
            )
        return self._adapters[adapter_id]

    def _open_base(self) -> BaseModel:
        if self._base is None:
            raise UsageError("this sampler is closed; open another one")
        return self._base
