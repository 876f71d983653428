"""A trainer and a sampler without a service: what is sent to them, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.unit.loops_transport_http.client.stock import StockPair, open_pair

from loops_core import ModelInput, SamplingParams, ServiceClient, TrainingClient
from loops_core.errors import UnsupportedError, UsageError
from loops_transport_http.client.opening import open_local

pytestmark = pytest.mark.slow  # each test starts a server

PATH = "bt://loops:r1/sampler_weights/one"


@pytest.fixture
def pair() -> Iterator[StockPair]:
    with open_pair() as serving:
        yield serving


@pytest.fixture
def service(pair: StockPair, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceClient]:
    monkeypatch.setenv("LOOPS_API_KEY", "of-the-environment")
    with ServiceClient.local(*pair.addresses) as client:
        yield client


@pytest.fixture
def trainer(service: ServiceClient) -> TrainingClient:
    return service.create_lora_training_client("stock-model", rank=4)


def test_a_stock_trainer_is_initialised_and_has_no_run(
    pair: StockPair, service: ServiceClient, trainer: TrainingClient
) -> None:
    assert (service.session_id, trainer.run_id) == ("local", None)
    ((headers, body),) = pair.sent("POST /trainer/init_trainer_server")
    assert (body["run_id"], body["lora_rank"]) == (None, 4)
    assert headers["content-type"] == "application/json"
    assert all("x-run-id" not in headers for _, headers, _ in pair.requests)
    assert {path.split("/")[1] for path, _, _ in pair.requests} == {"trainer"}


def test_no_key_is_shown_but_the_one_that_was_given(
    pair: StockPair, trainer: TrainingClient
) -> None:
    assert trainer.policy_version == 0
    assert all("authorization" not in headers for _, headers, _ in pair.requests)
    pair.requests.clear()
    with ServiceClient.local(*pair.addresses, api_key="mine") as service:
        service.create_sampling_client(base_model="stock-model")
    assert pair.requests
    assert all(headers["authorization"] == "Api-Key mine" for _, headers, _ in pair.requests)


def test_publishing_gives_a_client_with_a_floor(pair: StockPair, trainer: TrainingClient) -> None:
    sampler = trainer.save_weights_and_get_sampling_client("one").result()
    reply = sampler.sample(ModelInput.from_ints([5]), sampling_params=SamplingParams(max_tokens=1))
    assert (reply.policy_version, reply.sequences[0].tokens) == (1, [7])
    ((headers, _),) = pair.sent("POST /sampler/sample")
    assert headers["x-min-policy-version"] == "1"
    assert headers.keys().isdisjoint({"x-run-id", "x-sampler-id", "x-checkpoint-path"})


def test_saving_and_loading_go_to_the_trainer(trainer: TrainingClient) -> None:
    saved = trainer.save_state("one").result()
    assert saved.path == "bt://loops:elsewhere/weights/one"
    assert trainer.load_state(saved.path).result().step == 3


def test_a_checkpoint_is_pinned_by_its_path(
    pair: StockPair, service: ServiceClient, trainer: TrainingClient
) -> None:
    prompt, params = ModelInput.from_ints([5]), SamplingParams(max_tokens=1)
    service.create_sampling_client(model_path=PATH).sample(prompt, sampling_params=params)
    trainer.create_sampling_client(PATH).sample(prompt, sampling_params=params)
    (standalone, _), (paired, _) = pair.sent("POST /sampler/sample")
    assert standalone["x-checkpoint-path"] == paired["x-checkpoint-path"] == PATH
    assert "x-min-policy-version" not in standalone
    assert paired["x-min-policy-version"] == "1"


def test_a_sampler_of_a_base_model_is_the_one_that_is_there(
    pair: StockPair, service: ServiceClient
) -> None:
    sampler = service.create_sampling_client(base_model="stock-model")
    sampler.sample(ModelInput.from_ints([5]), sampling_params=SamplingParams(max_tokens=1))
    ((headers, _),) = pair.sent("POST /sampler/sample")
    assert not [name for name in headers if name.startswith("x-") and "baseten" not in name]


async def test_the_async_side_does_the_same(pair: StockPair) -> None:
    service = ServiceClient.local(*pair.addresses)
    trainer = await service.create_lora_training_client_async("stock-model", rank=4)
    sampler = await service.create_sampling_client_async(model_path=PATH)
    assert (trainer.run_id, sampler.checkpoint_path) == (None, PATH)
    await service.aclose()


Asking = Callable[[ServiceClient], object]


NEEDS_A_SERVICE: list[tuple[Asking, str]] = [
    (lambda client: client.list_checkpoints("r1"), "list_checkpoints"),
    (lambda client: client.get_server_capabilities(), "get_capabilities"),
    (lambda client: client.get_checkpoint_archive_url("c1"), "get_checkpoint_files"),
    (lambda client: client.create_training_client_from_state(PATH), "list_checkpoints"),
    (lambda client: client.create_lora_training_client("m", seed=1), "seed=1"),
    (lambda client: client.create_lora_training_client("m", name="n"), "name='n'"),
    (lambda client: client.create_lora_training_client("m", max_seq_len=9), "max_seq_len=9"),
    (lambda client: client.create_sampling_client("m", max_seq_len=9), "max_seq_length=9"),
]


@pytest.mark.parametrize(("ask", "named"), NEEDS_A_SERVICE)
def test_what_needs_a_service_is_refused_by_name(
    pair: StockPair, service: ServiceClient, ask: Asking, named: str
) -> None:
    with pytest.raises(UnsupportedError, match=named):
        ask(service)
    assert pair.requests == []


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("local:", "base_url"),
        ("local:?trainer_url=http://h", "base_url"),
        ("local:?trainer_url=http://h&sampler_url=http://h&other=1", "base_url"),
        ("local:?trainer_url=http://h&sampler_url=", "sampler_url"),
        ("local:?trainer_url=ftp://h&sampler_url=http://h", "trainer_url"),
        ("local:?trainer_url=http:///p&sampler_url=http://h", "trainer_url"),
        ("local:?trainer_url=http://h&trainer_url=http://i&sampler_url=http://h", "trainer_url"),
    ],
)
def test_a_wrong_address_is_named(url: str, field: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_local(url, api_key=None)
    assert caught.value.field == field
