"""A service that the clients of one test share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loops_core import ModelInput, SamplingParams, ServiceClient
from loops_core.errors import PluginError, UsageError
from loops_core.types.routes import SAMPLE, Call
from loops_core.types.sampling import SampleBody
from loops_mock.shared import SharedService


@pytest.fixture
def shared() -> Iterator[SharedService]:
    service = SharedService("test-shared", seed=3)
    yield service
    service.close()


def test_a_client_finds_what_another_made_after_that_one_is_closed(shared: SharedService) -> None:
    with ServiceClient(base_url=shared.url) as first:
        trainer = first.create_lora_training_client("mock-tiny", rank=2)
        path = trainer.save_state("a").result().path
    with pytest.raises(UsageError, match="closed"):
        first.create_lora_training_client("mock-tiny", rank=2)
    with ServiceClient(base_url=shared.url) as second:
        assert second.create_training_client_from_state(path).run_id != trainer.run_id


def test_seeds_that_are_left_to_chance_are_drawn_from_the_services() -> None:
    drawn: list[list[int]] = []
    for seed in (3, 3, 4):
        shared = SharedService("test-drawn", seed=seed)
        with ServiceClient(base_url=shared.url) as service:
            sampler = service.create_sampling_client("mock-tiny")
            prompt, params = ModelInput.from_ints([1]), SamplingParams(max_tokens=8)
            answers = [sampler.sample(prompt, sampling_params=params) for _ in range(2)]
            drawn.append([token for each in answers for token in each.sequences[0].tokens])
        shared.close()
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][:8] != drawn[0][8:]


def test_a_seed_that_was_given_counts(shared: SharedService) -> None:
    with ServiceClient(base_url=shared.url) as service:
        sampler = service.create_sampling_client("mock-tiny")
        prompt, params = ModelInput.from_ints([1]), SamplingParams(max_tokens=8, seed=1)
        first, second = (sampler.sample(prompt, sampling_params=params) for _ in range(2))
    assert first.sequences == second.sequences


def test_a_service_that_is_not_there_is_named(shared: SharedService) -> None:
    shared.close()
    with pytest.raises(PluginError, match="'shared:test-shared': there is no such service"):
        ServiceClient(base_url=shared.url)


def test_a_name_is_taken_once(shared: SharedService) -> None:
    with pytest.raises(UsageError, match="'test-shared' is taken"):
        SharedService("test-shared", seed=0)


def test_a_repeated_call_has_the_seed_of_the_first(shared: SharedService) -> None:
    def seed_of(key: str) -> int | None:
        call = Call(route=SAMPLE, body=SampleBody(prompt=[1]), idempotency_key=key)
        body = shared.seeded(call).body
        return body.seed if isinstance(body, SampleBody) else None

    first, second, again = (seed_of(key) for key in ("a", "b", "a"))
    assert first == again != second
