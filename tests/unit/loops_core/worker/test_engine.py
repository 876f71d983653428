"""The thread that turns a sampler: order, floors, cancelling, failures, closing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from loops_core.clock import SystemClock
from loops_core.errors import BusyError, CheckpointError, ServerShutdownError
from loops_core.protocols import (
    SampledTokens,
    SampleHandle,
    SampleOutcome,
    SamplerDescription,
    SampleRequest,
)
from loops_core.worker.engine import MAX_IDLE_ADAPTERS, MAX_WAITING, SamplerEngine, Weights

WAIT_S = 30.0


class EchoSampler:
    """Answers each request with its prompt, one request a step, while `open` is set."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.queue: dict[SampleHandle, SampleRequest] = {}
        self.resident: set[str] = set()
        self.cancelled: list[SampleHandle] = []
        self.cancel_seen = threading.Event()
        self.breaks = False
        self.is_closed = False
        self._next = 0

    def describe(self) -> SamplerDescription:
        return SamplerDescription(vocab_size=10, max_seq_len=100)

    def load_adapter(self, adapter_id: str, path: Path) -> None:
        if path.name == "damaged":
            raise CheckpointError("the adapter is damaged")
        self.resident.add(adapter_id)

    def drop_adapter(self, adapter_id: str) -> None:
        self.resident.discard(adapter_id)

    def submit(self, request: SampleRequest) -> SampleHandle:
        self._next += 1
        self.queue[SampleHandle(self._next)] = request
        return SampleHandle(self._next)

    def cancel(self, handle: SampleHandle) -> None:
        self.queue.pop(handle, None)
        self.cancelled.append(handle)
        self.cancel_seen.set()

    def step(self) -> list[SampleOutcome]:
        if self.breaks:
            raise RuntimeError("the device is gone")
        if not self.open.wait(timeout=0.001) or not self.queue:
            return []
        handle = next(iter(self.queue))
        request = self.queue.pop(handle)
        tokens = SampledTokens(
            tokens=request.prompt, logprobs=(0.0,) * len(request.prompt), stop_reason="length"
        )
        return [SampleOutcome(handle=handle, sequences=(tokens,))]

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def sampler() -> EchoSampler:
    return EchoSampler()


@pytest.fixture
def engine(sampler: EchoSampler) -> Iterator[SamplerEngine]:
    engine = SamplerEngine(sampler, SystemClock(), name="test")
    yield engine
    sampler.open.set()
    engine.close()


def _request(weights: Weights) -> SampleRequest:
    return SampleRequest(prompt=(1, 2), adapter_id=weights.adapter_id, seed=3)


def _late() -> Exception:
    return BusyError("too late")


def _adapter(name: str, folder: str = "good") -> Weights:
    return Weights(adapter_id=name, path=Path(folder), version=1)


def test_an_answer_says_which_weights_and_seed_made_it(engine: SamplerEngine) -> None:
    weights = _adapter("a")
    answer = engine.submit(_request, lambda: weights, wait_s=WAIT_S, late=_late).result(WAIT_S)
    assert (answer.weights, answer.seed) == (weights, 3)
    assert answer.outcome.sequences[0].tokens == (1, 2)


def test_a_request_waits_for_its_version_and_is_woken_by_a_publish(engine: SamplerEngine) -> None:
    published: list[Weights] = []
    asked = threading.Event()

    def choose() -> Weights | None:
        asked.set()
        return published[0] if published else None

    future = engine.submit(_request, choose, wait_s=WAIT_S, late=_late)
    assert asked.wait(WAIT_S)
    assert not future.done()
    published.append(_adapter("new"))
    engine.published()
    assert future.result(WAIT_S).weights == published[0]


def test_a_request_whose_version_does_not_come_ends_with_the_late_error(
    engine: SamplerEngine,
) -> None:
    future = engine.submit(_request, lambda: None, wait_s=0.0, late=_late)
    with pytest.raises(BusyError, match="too late"):
        future.result(WAIT_S)


def test_others_are_served_while_one_waits(engine: SamplerEngine) -> None:
    waiting = engine.submit(_request, lambda: None, wait_s=WAIT_S, late=_late)
    engine.submit(_request, Weights, wait_s=WAIT_S, late=_late).result(WAIT_S)
    assert not waiting.done()


def test_a_damaged_adapter_ends_only_its_own_request(engine: SamplerEngine) -> None:
    bad = engine.submit(_request, lambda: _adapter("b", "damaged"), wait_s=1.0, late=_late)
    good = engine.submit(_request, lambda: _adapter("g"), wait_s=1.0, late=_late)
    with pytest.raises(CheckpointError):
        bad.result(WAIT_S)
    assert good.result(WAIT_S).weights.adapter_id == "g"


def test_a_broken_sampler_tells_everybody(engine: SamplerEngine, sampler: EchoSampler) -> None:
    sampler.breaks = True
    futures = [engine.submit(_request, Weights, wait_s=1.0, late=_late) for _ in range(3)]
    for future in futures:
        with pytest.raises(RuntimeError, match="device is gone"):
            future.result(WAIT_S)


def test_cancelling_the_future_ends_the_request(
    engine: SamplerEngine, sampler: EchoSampler
) -> None:
    sampler.open.clear()
    future = engine.submit(_request, Weights, wait_s=1.0, late=_late)
    other = engine.submit(_request, Weights, wait_s=1.0, late=_late)
    assert future.cancel()
    sampler.open.set()
    assert other.result(WAIT_S).outcome.sequences
    assert not sampler.queue


def test_requests_whose_callers_have_gone_take_nobodys_place(engine: SamplerEngine) -> None:
    asked = threading.Event()
    waiting = [
        engine.submit(_request, lambda: None, wait_s=WAIT_S, late=_late)
        for _ in range(MAX_WAITING - 1)
    ]
    waiting.append(engine.submit(_request, asked.set, wait_s=WAIT_S, late=_late))
    assert asked.wait(WAIT_S)  # from here on nothing wakes the thread
    with pytest.raises(BusyError, match="waiting"):
        engine.submit(_request, Weights, wait_s=WAIT_S, late=_late)
    for future in waiting:
        future.cancel()
    answer = engine.submit(_request, Weights, wait_s=WAIT_S, late=_late).result(WAIT_S)
    assert answer.outcome.sequences


def test_few_idle_adapters_stay_resident(engine: SamplerEngine, sampler: EchoSampler) -> None:
    for number in range(MAX_IDLE_ADAPTERS + 5):
        weights = _adapter(f"a{number}")
        engine.submit(_request, lambda w=weights: w, wait_s=1.0, late=_late).result(WAIT_S)
    assert len(sampler.resident) <= MAX_IDLE_ADAPTERS + 1
    assert f"a{MAX_IDLE_ADAPTERS + 4}" in sampler.resident


def test_closing_ends_what_waits_and_closes_the_sampler(sampler: EchoSampler) -> None:
    engine = SamplerEngine(sampler, SystemClock(), name="test")
    future = engine.submit(_request, lambda: None, wait_s=WAIT_S, late=_late)
    engine.close()
    with pytest.raises(ServerShutdownError):
        future.result(WAIT_S)
    with pytest.raises(ServerShutdownError):
        engine.submit(_request, Weights, wait_s=1.0, late=_late)
    assert sampler.is_closed
