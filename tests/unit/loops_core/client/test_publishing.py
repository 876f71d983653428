"""Publishing weights, and the future whose second stage waits for the sampler."""

from __future__ import annotations

import threading

import pytest
from tests.unit.loops_core.client.fakes import (
    PENDING,
    FakeService,
    JumpingClock,
    done,
    failed,
    make_client,
)

from loops_core import compat
from loops_core.client.sampling import SamplingClient
from loops_core.client.training import TrainingClient
from loops_core.errors import (
    NotFoundError,
    OperationCancelledError,
    RemoteOpError,
    ResultTimeoutError,
    StalePolicyError,
    UnreachableError,
    UsageError,
)
from loops_core.types.base import WireModel
from loops_core.types.datum import ModelInput
from loops_core.types.deployment import (
    CreateSamplerBody,
    PolicyVersion,
    SamplerRecord,
    SamplerReply,
    ValidateCheckpointBody,
)
from loops_core.types.routes import Call, SamplerPin
from loops_core.types.sampling import CompletionChoice, Completions
from loops_core.types.training import SaveWeightsForSamplerResponse

PATH = "bt://loops:r1/sampler_weights/step-1"
PROMPT = ModelInput.from_ints([1, 2])
PUBLISHED = done(SaveWeightsForSamplerResponse(version=3, path=PATH))


class Sampler:
    """The paired sampler's end: reaches a version after some looks."""

    def __init__(self, service: FakeService, *, looks_until_ready: float = 0) -> None:
        self.looks_left = looks_until_ready
        service.answers["create_sampler"] = self.create
        service.answers["sampler_policy_version"] = self.look
        service.answers["sample"] = lambda _: Completions(choices=[CompletionChoice(token_ids=[1])])

    def create(self, call: Call[WireModel]) -> SamplerReply:
        assert isinstance(call.body, CreateSamplerBody)
        assert (call.body.run_id, call.body.session_id) == ("r1", "s1")
        record = SamplerRecord(id="smp", base_url="fake:/samplers/smp/", base_model="tiny")
        return SamplerReply(sampler=record)

    def look(self, call: Call[WireModel]) -> PolicyVersion:
        assert call.base_url is not None
        assert call.base_url.startswith("fake:/samplers/smp")
        self.looks_left -= 1
        return PolicyVersion(policy_version=3 if self.looks_left < 0 else None)


@pytest.fixture
def service() -> FakeService:
    service = FakeService()
    service.automatic = lambda _: PUBLISHED
    return service


@pytest.fixture
def client(service: FakeService) -> TrainingClient:
    return make_client(service)


def naps(service: FakeService) -> list[float]:
    assert isinstance(service.clock, JumpingClock)
    return service.clock.naps


async def test_the_client_samples_from_the_published_version_or_a_later_one(
    service: FakeService, client: TrainingClient
) -> None:
    Sampler(service)
    sampling = client.save_weights_and_get_sampling_client("step-1").result()
    sampling.sample(PROMPT)
    assert service.sent("sample")[0].pin == SamplerPin(run_id="r1", min_policy_version=3)
    assert sampling.checkpoint_path is None
    again = await client.save_weights_and_get_sampling_client_async("step-2")
    assert isinstance(again, SamplingClient)


def test_the_sampler_is_asked_every_two_seconds_at_first_at_once(
    service: FakeService, client: TrainingClient
) -> None:
    Sampler(service, looks_until_ready=3)
    client.save_weights_and_get_sampling_client().result()
    assert naps(service) == [2.0, 2.0, 2.0]


def test_the_second_stage_has_600_seconds_whatever_the_timeout(
    service: FakeService, client: TrainingClient
) -> None:
    Sampler(service, looks_until_ready=float("inf"))
    future = client.save_weights_and_get_sampling_client()
    before = service.clock.monotonic()
    with pytest.raises(StalePolicyError, match="version 3 within 600 s") as caught:
        future.result(timeout=5)
    assert isinstance(caught.value, RuntimeError)
    assert caught.value.min_policy_version == 3
    assert service.clock.monotonic() - before == pytest.approx(600)


def test_the_timeout_bounds_the_first_stage(service: FakeService, client: TrainingClient) -> None:
    Sampler(service)
    service.automatic = lambda _: PENDING
    future = client.save_weights_and_get_sampling_client()
    with pytest.raises(ResultTimeoutError, match="save_weights_for_sampler op0"):
        future.result(timeout=5)
    service.settle("op0", PUBLISHED)
    assert isinstance(future.result(timeout=5), SamplingClient)


def test_a_failed_publishing_is_raised(service: FakeService, client: TrainingClient) -> None:
    Sampler(service)
    service.automatic = lambda _: failed("the disk is full")
    future = client.save_weights_and_get_sampling_client()
    for _ in range(2):
        with pytest.raises(RemoteOpError, match="disk is full"):
            future.result()
    assert service.sent("create_sampler") == []


def test_looks_that_fail_in_passing_are_repeated(
    service: FakeService, client: TrainingClient
) -> None:
    Sampler(service)
    service.failures["sampler_policy_version"] = [UnreachableError("broke") for _ in range(4)]
    assert isinstance(client.save_weights_and_get_sampling_client().result(), SamplingClient)


def test_a_sampler_that_refuses_is_an_error_at_once(
    service: FakeService, client: TrainingClient
) -> None:
    Sampler(service)
    service.failures["sampler_policy_version"] = [UsageError("no such sampler")]
    with pytest.raises(UsageError, match="no such sampler"):
        client.save_weights_and_get_sampling_client().result()
    assert naps(service) == []


def test_done_is_true_only_after_the_second_stage(
    service: FakeService, client: TrainingClient
) -> None:
    Sampler(service, looks_until_ready=1)
    future = client.save_weights_and_get_sampling_client()
    assert not future.done()
    service.clock.sleep(2.0)
    assert future.done()


def test_an_interrupt_in_the_second_stage_leaves_the_future_usable(
    service: FakeService, client: TrainingClient
) -> None:
    Sampler(service, looks_until_ready=1)
    future = client.save_weights_and_get_sampling_client()
    service.failures["sampler_policy_version"] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        future.result()
    assert future.result() is future.result()


def test_a_callback_comes_after_the_second_stage() -> None:
    service = FakeService()
    client = make_client(service)
    Sampler(service, looks_until_ready=2)
    called = threading.Event()
    future = client.save_weights_and_get_sampling_client()
    future.add_done_callback(lambda _: called.set())
    service.settle(future.operation_id, PUBLISHED)
    assert called.wait(10)
    assert future.settled
    client.close()


def test_a_publishing_can_be_cancelled(service: FakeService, client: TrainingClient) -> None:
    service.automatic = lambda _: PENDING
    future = client.save_weights_and_get_sampling_client()
    assert future.cancel()
    with pytest.raises(OperationCancelledError):
        future.result()


def test_a_pinned_client_gives_way_to_what_is_published_next(
    service: FakeService, client: TrainingClient
) -> None:
    Sampler(service)
    client.save_weights_for_sampler("step-1").result()
    sampling = client.create_sampling_client(PATH)
    sampling.sample(PROMPT)
    pin = SamplerPin(run_id="r1", checkpoint_path=PATH, min_policy_version=4)
    assert service.sent("sample")[0].pin == pin
    assert sampling.checkpoint_name == "step-1"


def test_before_anything_was_published_the_floor_is_1(
    service: FakeService, client: TrainingClient
) -> None:
    Sampler(service)
    client.create_sampling_client(PATH).sample(PROMPT)
    assert service.sent("sample")[0].pin.min_policy_version == 1


async def test_a_checkpoint_is_validated_first(
    service: FakeService, client: TrainingClient
) -> None:
    service.failures["validate_checkpoint"] = [NotFoundError("no such checkpoint")]
    with pytest.raises(NotFoundError):
        await client.create_sampling_client_async(PATH)
    body = service.calls[0].body
    assert body == ValidateCheckpointBody(checkpoint_path=PATH, run_id="r1")
    assert len(service.calls) == 1


async def test_compat_offers_the_form_that_returns_the_client_itself(
    service: FakeService, client: TrainingClient
) -> None:
    Sampler(service)
    got = compat.save_weights_and_get_sampling_client(client, "a")
    assert isinstance(got, SamplingClient)
    got = await compat.save_weights_and_get_sampling_client_async(client, "b")
    assert isinstance(got, SamplingClient)
