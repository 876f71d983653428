"""SamplingClient."""

from __future__ import annotations

import pickle

import pytest
from tests.unit.loops_core.client.fakes import FakeService, make_driver, plugins_with

from loops_core.client.sampler_link import SamplerLink, SamplerSettings
from loops_core.client.sampling import SamplingClient
from loops_core.errors import (
    BusyError,
    SampleTimeoutError,
    UnsupportedError,
    UsageError,
)
from loops_core.hooks import TransportConfig, hookimpl
from loops_core.protocols import Transport
from loops_core.types.base import WireModel
from loops_core.types.datum import ModelInput
from loops_core.types.deployment import ModelCard, ModelListing, SamplerDeployment
from loops_core.types.routes import Call, SamplerPin
from loops_core.types.sampling import (
    ChoiceLogprobs,
    CompletionChoice,
    Completions,
    PromptLogprob,
    SampleBody,
    SamplingParams,
)

PATH = "bt://loops:r1/sampler_weights/step-1"
PIN = SamplerPin(run_id="r1", checkpoint_path=PATH, min_policy_version=2)
PROMPT = ModelInput.from_ints([5, 6])


def answer(call: Call[WireModel]) -> Completions:
    body = call.body
    assert isinstance(body, SampleBody)
    rows = None
    if body.prompt_logprobs is not None:
        rows = [None, *({str(t): PromptLogprob(logprob=-1.0)} for t in body.prompt[1:])]
    one = CompletionChoice(
        token_ids=[7],
        logprobs=ChoiceLogprobs(token_logprobs=[-0.5]),
        finish_reason="length",
        prompt_logprobs=rows,
    )
    return Completions(choices=[one] * body.n, policy_version=3)


class OpensFakes:
    """A transport plugin for the scheme `fake`; keeps what it was asked with."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str | None]] = []
        self.services: list[FakeService] = []

    @hookimpl
    def loops_transport(self, url: str, config: TransportConfig) -> Transport | None:
        if not url.startswith("fake:"):
            return None
        self.opened.append((url, config.api_key))
        service = FakeService()
        service.answers["sample"] = answer
        service.answers["list_models"] = lambda _: ModelListing(data=[])
        self.services.append(service)
        return service


@pytest.fixture
def service() -> FakeService:
    service = FakeService()
    service.answers["sample"] = answer
    return service


@pytest.fixture
def client(service: FakeService) -> SamplingClient:
    settings = SamplerSettings(
        base_model="tiny",
        deployment=SamplerDeployment(base_url="fake:/samplers/s1"),
        service_url="fake:",
        pin=PIN,
        timeout_s=30.0,
        ready_timeout_s=60.0,
    )
    return SamplingClient.on_link(
        SamplerLink(settings, driver=make_driver(service), plugins=plugins_with([]))
    )


async def test_sample_returns_sequences_in_both_forms(client: SamplingClient) -> None:
    response = client.sample(PROMPT, 2, SamplingParams(max_tokens=1))
    assert [sequence.tokens for sequence in response.sequences] == [[7], [7]]
    assert response.policy_version == 3
    assert await client.sample_async(PROMPT, 2, SamplingParams(max_tokens=1)) == response


def test_a_sample_carries_pin_address_and_affinity(
    service: FakeService, client: SamplingClient
) -> None:
    client.sample(PROMPT, affinity_key="user-1")
    call = service.sent("sample")[0]
    assert call.pin == PIN
    assert call.run_id == "r1"
    assert call.base_url == "fake:/samplers/s1"
    assert call.affinity_key == "user-1"
    assert call.timeout_s == 30.0


def test_a_sample_that_comes_too_early_is_repeated_with_its_key(
    service: FakeService, client: SamplingClient
) -> None:
    service.failures["sample"] = [BusyError("behind", retry_after_s=0.0)]
    client.sample(PROMPT)
    first, second = service.sent("sample")
    assert first.idempotency_key == second.idempotency_key
    client.sample(PROMPT)
    assert service.sent("sample")[2].idempotency_key != first.idempotency_key


def test_a_sample_that_was_not_answered_in_time_is_not_repeated(
    service: FakeService, client: SamplingClient
) -> None:
    service.failures["sample"] = [SampleTimeoutError("too slow", timeout=30.0)]
    with pytest.raises(SampleTimeoutError):
        client.sample(PROMPT)
    assert len(service.sent("sample")) == 1


@pytest.mark.parametrize("affinity_key", ["", 7])
def test_an_affinity_key_that_is_no_text_is_refused(
    client: SamplingClient, affinity_key: str
) -> None:
    with pytest.raises(UsageError, match="affinity_key"):
        client.sample(PROMPT, affinity_key=affinity_key)


async def test_compute_logprobs_scores_the_prompt(
    service: FakeService, client: SamplingClient
) -> None:
    assert client.compute_logprobs(PROMPT) == [None, -1.0]
    assert await client.compute_logprobs_async(PROMPT) == [None, -1.0]
    body = service.sent("sample")[0].body
    assert isinstance(body, SampleBody)
    assert (body.n, body.max_tokens, body.temperature, body.prompt_logprobs) == (1, 1, 0.0, 0)


def test_a_sampler_that_scores_nothing_is_an_error(
    service: FakeService, client: SamplingClient
) -> None:
    service.answers["sample"] = lambda _: Completions(choices=[CompletionChoice(token_ids=[7])])
    with pytest.raises(UnsupportedError, match="prompt_logprobs"):
        client.compute_logprobs(PROMPT)


def test_discover_tells_base_model_and_adapter_apart(
    service: FakeService, client: SamplingClient
) -> None:
    cards = [ModelCard(id="step-1", parent="tiny"), ModelCard(id="tiny")]
    service.answers["list_models"] = lambda _: ModelListing(data=cards)
    assert client.discover_base_model_name() == "tiny"
    assert client.discover_adapter_name() == "step-1"
    service.answers["list_models"] = lambda _: ModelListing(data=[])
    assert client.discover_adapter_name() is None


async def test_ensure_ready_waits_until_the_sampler_answers(
    service: FakeService, client: SamplingClient
) -> None:
    service.answers["list_models"] = lambda _: ModelListing(data=[])
    service.failures["list_models"] = [BusyError("loading") for _ in range(3)]
    client.ensure_ready()
    assert len(service.sent("list_models")) == 4
    service.failures["list_models"] = [BusyError("loading") for _ in range(99)]
    with pytest.raises(BusyError):
        await client.ensure_ready_async(5)


def test_the_checkpoint_has_a_path_and_a_name(client: SamplingClient) -> None:
    assert (client.checkpoint_path, client.checkpoint_name) == (PATH, "step-1")
    assert client.get_base_model() == "tiny"


def test_a_closed_client_refuses_every_call(service: FakeService, client: SamplingClient) -> None:
    with client:
        client.sample(PROMPT)
    client.close()
    for ask in (
        lambda: client.sample(PROMPT),
        client.ensure_ready,
        client.discover_adapter_name,
        client.get_tokenizer,
    ):
        with pytest.raises(UsageError, match="closed"):
            ask()
    assert not service.closed


def test_a_pickled_client_keeps_its_pin_and_not_its_key() -> None:
    original = SamplingClient(
        base_model="tiny",
        deployment=SamplerDeployment(base_url="fake:/samplers/s1"),
        api_key="secret-key",
        checkpoint_path=PATH,
        run_id="r1",
    )
    packed = pickle.dumps(original)
    assert b"secret-key" not in packed
    copy: SamplingClient = pickle.loads(packed)
    assert copy.checkpoint_path == PATH
    assert copy.get_base_model() == "tiny"


async def test_a_constructed_client_opens_and_closes_a_connection_of_its_own() -> None:
    opens = OpensFakes()
    client = SamplingClient(
        base_model="tiny",
        deployment=SamplerDeployment(base_url="fake:/samplers/s1"),
        base_url="fake:service",
        api_key="k",
        sampler_id="s1",
        plugins=plugins_with([opens]),
    )
    assert opens.opened == []
    client.sample(PROMPT)
    client.sample(PROMPT)
    assert opens.opened == [("fake:service", "k")]
    await client.aclose()
    assert opens.services[0].closed


def test_ensure_ready_for_deployment_leaves_no_connection_behind() -> None:
    opens = OpensFakes()
    SamplingClient.ensure_ready_for_deployment(
        base_model="tiny",
        deployment=SamplerDeployment(base_url="fake:/samplers/s1"),
        plugins=plugins_with([opens]),
    )
    assert [service.closed for service in opens.services] == [True]
