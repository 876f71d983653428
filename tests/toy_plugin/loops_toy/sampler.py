"""A sampler that finishes a request in one step."""

from __future__ import annotations

from pathlib import Path
from typing import final

import numpy as np

from loops_core.errors import NotFoundError
from loops_core.protocols import (
    SampledTokens,
    SampleHandle,
    SampleOutcome,
    SamplerDescription,
    SampleRequest,
)
from loops_toy.state import ADAPTER, ToyState, log_probs


@final
class ToySampler:
    """A `Sampler`; see there for what each call promises."""

    def __init__(self, *, vocab_size: int, max_seq_len: int) -> None:
        self._description = SamplerDescription(vocab_size=vocab_size, max_seq_len=max_seq_len)
        self._adapters: dict[str | None, list[float]] = {None: [0.0] * vocab_size}
        self._queue: dict[SampleHandle, tuple[SampleRequest, list[float]]] = {}
        self._submitted = 0

    def describe(self) -> SamplerDescription:
        return self._description

    def load_adapter(self, adapter_id: str, path: Path) -> None:
        if adapter_id not in self._adapters:
            state = ToyState.load(path / ADAPTER, vocab_size=self._description.vocab_size)
            self._adapters[adapter_id] = state.logits

    def drop_adapter(self, adapter_id: str) -> None:
        self._adapters.pop(adapter_id, None)

    def submit(self, request: SampleRequest) -> SampleHandle:
        if request.adapter_id not in self._adapters:
            raise NotFoundError(f"adapter {request.adapter_id!r} is not loaded")
        self._submitted += 1
        handle = SampleHandle(self._submitted)
        self._queue[handle] = (request, self._adapters[request.adapter_id])
        return handle

    def cancel(self, handle: SampleHandle) -> None:
        self._queue.pop(handle, None)

    def step(self) -> list[SampleOutcome]:
        if not self._queue:
            return []
        handle = min(self._queue)
        request, logits = self._queue.pop(handle)
        sequences = tuple(self._draw(request, logits, n) for n in range(request.num_samples))
        return [SampleOutcome(handle=handle, sequences=sequences)]

    def close(self) -> None:
        self._adapters.clear()
        self._queue.clear()

    def _draw(self, request: SampleRequest, logits: list[float], number: int) -> SampledTokens:
        table, tokens = log_probs(logits), list[int]()
        room = self._description.max_seq_len - len(request.prompt)
        limit = room if request.max_tokens is None else min(room, request.max_tokens)
        while len(tokens) < limit:
            token = int(table.argmax())
            if request.temperature > 0:
                rng = np.random.default_rng([request.seed, number, len(tokens)])
                cut = np.exp(log_probs((np.array(logits) / request.temperature).tolist()))
                token = int(rng.choice(len(logits), p=cut / cut.sum()))
            tokens.append(token)
            if token in request.stop_token_ids:
                break
        stopped = bool(tokens) and tokens[-1] in request.stop_token_ids
        return SampledTokens(
            tokens=tuple(tokens),
            logprobs=tuple(float(table[token]) for token in tokens),
            stop_reason="stop" if stopped else "length",
        )
