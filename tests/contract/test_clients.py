"""What a program sees of any backend: twins agree, futures call back, custom losses train."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.contract.conftest import ADAM, Setup

from loops_core import (
    Datum,
    ModelInput,
    OptimStepResponse,
    SamplingClient,
    SamplingParams,
    ServiceClient,
    TrainingClient,
    compat,
)
from loops_core.errors import ResultTimeoutError, UsageError

pytestmark = pytest.mark.slow

PLAIN_SUMS = {"skip_token_normalization": True}
PROMPT = ModelInput.from_ints([1, 2, 3])


def test_training_by_twins_gives_the_same_bytes(
    service: ServiceClient,
    setup: Setup,
    batch: list[Datum],
    state_digest: Callable[[TrainingClient], str],
) -> None:
    sync = service.create_lora_training_client(setup.base_model, rank=4, seed=7)
    for _ in range(2):
        sync.forward_backward(batch)
        sync.optim_step(ADAM).result()

    async def train() -> TrainingClient:
        client = await service.create_lora_training_client_async(setup.base_model, rank=4, seed=7)
        for _ in range(2):
            await client.forward_backward_async(batch)
            await (await client.optim_step_async(ADAM))
        return client

    assert state_digest(asyncio.run(train())) == state_digest(sync)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
def test_a_custom_loss_trains_as_the_loss_that_it_equals(
    service: ServiceClient, setup: Setup, batch: list[Datum]
) -> None:
    def likelihood(data: list[Datum], logprobs: list[Any]) -> tuple[Any, dict[str, float]]:
        return -sum(lp.sum() for lp in logprobs), {"num_data": len(data)}

    plain, custom = (
        service.create_lora_training_client(setup.base_model, rank=4, seed=7) for _ in range(2)
    )
    expected = plain.forward_backward(batch, "cross_entropy", PLAIN_SUMS).result()
    result = custom.forward_backward_custom(batch, likelihood, framework="torch").result()
    # the same sum of the same float32 terms, added up by torch and by the backend
    assert result.metrics["custom_loss"] == pytest.approx(expected.metrics["loss:sum"], rel=1e-5)
    assert result.metrics["num_data"] == len(batch)
    norms = [client.optim_step(ADAM).result(timeout=60).metrics or {} for client in (plain, custom)]
    # weights of exactly 1 and no weights make the same gradient, whatever order it is added up in
    assert norms[1]["grad_norm"] == pytest.approx(norms[0]["grad_norm"], rel=1e-5)


def test_a_finished_operation_calls_back_and_says_so(
    trainer: TrainingClient, batch: list[Datum]
) -> None:
    called = threading.Event()
    trainer.forward_backward(batch)
    future = trainer.optim_step(ADAM)
    future.add_done_callback(lambda _: called.set())
    assert called.wait(60)
    assert future.done()
    assert isinstance(future.result(timeout=0), OptimStepResponse)


def test_an_operation_that_waits_behind_others_can_be_given_up_and_asked_again(
    trainer: TrainingClient, batch: list[Datum]
) -> None:
    futures = [trainer.forward_backward(batch) for _ in range(20)]
    last = trainer.optim_step(ADAM)
    try:
        last.result(timeout=0)
    except ResultTimeoutError as error:
        assert error.operation_id == last.operation_id  # noqa: PT017 - a fast backend is done by now
    assert last.result(timeout=60).metrics
    assert all(future.done() for future in futures)


def test_both_forms_of_publishing_return_clients_that_sample(
    trainer: TrainingClient, batch: list[Datum]
) -> None:
    trainer.forward_backward(batch)
    trainer.optim_step(ADAM)
    params = SamplingParams(max_tokens=3, seed=5)
    future = trainer.save_weights_and_get_sampling_client("one")
    first = future.result(timeout=60)
    second = compat.save_weights_and_get_sampling_client(trainer, "two")
    for client, version in ((first, 1), (second, 2)):
        assert isinstance(client, SamplingClient)
        answer = client.sample(PROMPT, 2, params)
        assert (answer.policy_version or 0) >= version
        assert [len(sequence.tokens) for sequence in answer.sequences] == [3, 3]
    assert trainer.policy_version == 2


async def test_scores_are_the_same_in_both_forms(service: ServiceClient, setup: Setup) -> None:
    async with service.create_sampling_client(setup.base_model) as client:
        scores = client.compute_logprobs(PROMPT)
        assert scores[0] is None
        assert await client.compute_logprobs_async(PROMPT) == scores


def test_after_close_every_client_of_the_service_refuses(setup: Setup, batch: list[Datum]) -> None:
    with ServiceClient(base_url=setup.url) as service:
        trainer = service.create_lora_training_client(setup.base_model, rank=4)
        sampler = service.create_sampling_client(setup.base_model)
        unread = trainer.forward(batch)
    for ask in (
        lambda: trainer.forward(batch),
        unread.result,
        lambda: sampler.sample(PROMPT),
        lambda: service.session_id,
    ):
        with pytest.raises(UsageError, match="closed"):
            ask()
