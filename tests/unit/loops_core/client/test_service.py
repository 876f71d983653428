"""ServiceClient: opening, creating, closing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest
from tests.unit.loops_core.client.control import Control
from tests.unit.loops_core.client.fakes import (
    failed,
    plugins_with,
)

from loops_core.client.service import ServiceClient
from loops_core.errors import (
    NotFoundError,
    PluginError,
    RemoteOpError,
    ResultTimeoutError,
    UnreachableError,
    UnsupportedError,
    UsageError,
)
from loops_core.plugins import Plugins
from loops_core.types.deployment import (
    CheckpointListing,
    CreateTrainerBody,
    ServerCapabilities,
    SupportedModel,
)
from loops_core.types.operation import OperationBody
from loops_core.types.training import (
    AdamParams,
    WandbConfig,
)

SAMPLER_PATH = "bt://loops:r1/sampler_weights/a"
STATE_PATH = "bt://loops:r1/weights/only"


@pytest.fixture
def control() -> Control:
    return Control()


@pytest.fixture
def client(control: Control) -> ServiceClient:
    return ServiceClient(
        base_url="fake:", plugins=plugins_with([control]), clock=control.service.clock
    )


def routes(control: Control) -> list[str]:
    return [call.route.name for call in control.service.calls]


@pytest.mark.parametrize(
    ("given", "variable", "opened"),
    [
        ("fake:a", "fake:b", "fake:a"),
        ("fake://a/", "", "fake://a"),
        (None, "fake:b/", "fake:b"),
        (None, "", "inproc:jax"),
    ],
)
def test_the_url_is_the_argument_s_the_environment_s_or_the_default(
    control: Control,
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
    variable: str,
    opened: str,
) -> None:
    monkeypatch.setenv("LOOPS_BASE_URL", variable)
    ServiceClient(base_url=given, plugins=plugins_with([control]))
    assert control.opened[0][0] == opened


@pytest.mark.parametrize(
    ("given", "environment", "key"),
    [
        ("a", {"LOOPS_API_KEY": "b"}, "a"),
        (None, {"LOOPS_API_KEY": "b", "BASETEN_API_KEY": "c"}, "b"),
        (None, {"BASETEN_API_KEY": "c"}, "c"),
        (None, {}, None),
    ],
)
def test_the_key_is_the_argument_s_or_the_environment_s(
    control: Control,
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
    environment: dict[str, str],
    key: str | None,
) -> None:
    for name in ("LOOPS_API_KEY", "BASETEN_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ServiceClient(base_url="fake:", api_key=given, plugins=plugins_with([control]))
    assert control.opened == [("fake:", key)]


def test_opening_sends_nothing(control: Control, client: ServiceClient) -> None:
    assert control.service.calls == []
    assert client.session_id == "s1"
    assert client.session_id == "s1"
    assert routes(control) == ["create_session"]


def test_a_url_that_nobody_serves_names_the_extra() -> None:
    with pytest.raises(PluginError, match=r"loops-framework\[http\]"):
        ServiceClient(base_url="https://service.example", plugins=plugins_with([]))


def test_local_says_what_is_missing_and_sends_no_key_of_the_environment(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPS_API_KEY", "secret")
    with pytest.raises(UnsupportedError, match="http://trainer"):
        ServiceClient.local("http://trainer", "http://sampler", plugins=plugins_with([]))
    ServiceClient.local("http://trainer", "http://sampler", plugins=plugins_with([control]))
    url = "local:?trainer_url=http%3A%2F%2Ftrainer&sampler_url=http%3A%2F%2Fsampler"
    assert control.opened == [(url, None)]


def opened_with(**options: object) -> Callable[[Plugins], object]:
    return lambda plugins: ServiceClient(base_url="fake:", plugins=plugins, **options)  # type: ignore[arg-type]


def test_a_project_cannot_be_honoured(control: Control) -> None:
    with pytest.raises(UnsupportedError) as caught:
        opened_with(training_project_id="p")(plugins_with([control]))
    assert caught.value.field == "training_project_id"
    assert control.opened == []


def test_an_unknown_availability_is_a_usage_error(control: Control) -> None:
    with pytest.raises(UsageError, match="dedicated, spot"):
        opened_with(availability_model="cheap")(plugins_with([control]))
    opened_with(availability_model="dedicated")(plugins_with([control]))


def test_a_training_client_is_ready_and_initialised(
    control: Control, client: ServiceClient
) -> None:
    training = client.create_lora_training_client("tiny", 8, 3, max_seq_len=64, name="n")
    expected = ["create_session", "create_trainer", "health", "init_trainer_server", "retrieve"]
    assert routes(control) == expected
    body = control.service.sent("create_trainer")[0].body
    assert isinstance(body, CreateTrainerBody)
    sent = (body.session_id, body.lora_rank, body.seed, body.max_seq_len, body.name)
    assert sent == ("s1", 8, 3, 64, "n")
    assert training.run_id == "r1"
    assert training.get_info().max_seq_len == 64
    assert control.events == ["opened r1 tiny 8"]
    training.optim_step(AdamParams())
    sent_ids = [
        call.body.seq_id for call in control.service.calls if isinstance(call.body, OperationBody)
    ]
    assert sent_ids == [1, 2]


async def test_the_twin_does_the_same(control: Control, client: ServiceClient) -> None:
    training = await client.create_lora_training_client_async("tiny", 8)
    assert training.run_id == "r1"
    assert routes(control)[-2:] == ["init_trainer_server", "retrieve"]


async def test_two_creations_share_one_session(control: Control, client: ServiceClient) -> None:
    await asyncio.gather(*(client.create_lora_training_client_async("tiny") for _ in range(3)))
    assert routes(control).count("create_session") == 1


def test_with_sampler_opens_the_paired_sampler_at_once(
    control: Control, client: ServiceClient
) -> None:
    client.create_lora_training_client("tiny", with_sampler=True)
    assert routes(control)[-1] == "create_sampler"


@pytest.mark.parametrize("route", ["create_trainer", "create_sampler"])
def test_a_create_whose_reply_was_lost_is_repeated_under_its_key_where_that_is_safe(
    control: Control, client: ServiceClient, route: str
) -> None:
    def create() -> object:
        control.service.failures[route] = [UnreachableError("reset")]
        if route == "create_sampler":
            return client.create_sampling_client("tiny")
        return client.create_lora_training_client("tiny")

    create()
    first, second = control.service.sent(route)
    assert first.idempotency_key == second.idempotency_key is not None
    control.service.repeats_creates = False
    with pytest.raises(UnreachableError, match="reset"):
        create()
    assert len(control.service.sent(route)) == 3


def test_creation_waits_until_the_trainer_answers(control: Control, client: ServiceClient) -> None:
    control.service.failures["health"] = [UnreachableError("not yet") for _ in range(6)]
    client.create_lora_training_client("tiny")
    assert routes(control).count("health") == 7


def test_a_trainer_that_never_answers_is_a_timeout(control: Control, client: ServiceClient) -> None:
    control.service.failures["health"] = [UnreachableError("not yet") for _ in range(999)]
    with pytest.raises(ResultTimeoutError, match="r1 was not ready within 60 s"):
        client.create_lora_training_client("tiny", ready_timeout=60)


def test_a_creation_that_fails_halfway_tells_observers_of_the_end(
    control: Control, client: ServiceClient
) -> None:
    control.service.automatic = lambda _: failed("out of memory")
    with pytest.raises(RemoteOpError, match="out of memory"):
        client.create_lora_training_client("tiny")
    assert control.events == ["opened r1 tiny 32", "closed r1"]


WRONG = [
    ("base_model", {"base_model": ""}),
    ("rank", {"rank": 0}),
    ("rank", {"rank": "8"}),
    ("seed", {"seed": -1}),
    ("timeout", {"timeout": -1}),
    ("ready_timeout", {"ready_timeout": float("nan")}),
    ("max_seq_len", {"max_seq_len": 0}),
    ("replicas", {"replicas": 0}),
    ("wandb_config", {"wandb_config": {"project": "p"}}),
    ("with_sampler", {"with_sampler": 1}),
    ("sampler_num_replicas", {"sampler_num_replicas": 0}),
    ("scope", {"scope": ""}),
    ("base_checkpoint", {"base_checkpoint": 3}),
]


@pytest.mark.parametrize(("name", "arguments"), WRONG)
def test_a_wish_that_is_wrong_is_refused_by_name_before_anything_is_made(
    control: Control, client: ServiceClient, name: str, arguments: dict[str, object]
) -> None:
    with pytest.raises(UsageError) as caught:
        client.create_lora_training_client(**{"base_model": "tiny", **arguments})  # type: ignore[arg-type]
    assert caught.value.field == name
    assert control.service.calls == []


def test_without_wandb_a_wandb_config_is_refused_with_the_extra_to_install(
    control: Control, client: ServiceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    with pytest.raises(UnsupportedError, match=r"loops-core\[wandb\]"):
        client.create_lora_training_client("tiny", wandb_config=WandbConfig(project="p"))
    assert control.service.calls == []
    client.create_lora_training_client("tiny")


def test_a_name_that_is_too_long_is_refused(control: Control, client: ServiceClient) -> None:
    with pytest.raises(UsageError, match="name"):
        client.create_lora_training_client("tiny", name="n" * 256)
    assert "create_trainer" not in routes(control)


@pytest.mark.parametrize(
    ("with_optimizer", "route"), [(False, "load_state"), (True, "load_state_with_optimizer")]
)
async def test_a_client_from_a_state_loads_it_after_the_reset(
    control: Control, client: ServiceClient, with_optimizer: bool, route: str
) -> None:
    if with_optimizer:
        client.create_training_client_from_state_with_optimizer(STATE_PATH)
        await client.create_training_client_from_state_with_optimizer_async(STATE_PATH)
    else:
        client.create_training_client_from_state(STATE_PATH)
        await client.create_training_client_from_state_async(STATE_PATH)
    submits = [name for name in routes(control) if name in (route, "init_trainer_server")]
    assert submits == ["init_trainer_server", route] * 2
    body = control.service.sent("create_trainer")[0].body
    assert isinstance(body, CreateTrainerBody)
    assert (body.base_model, body.lora_rank, body.path) == ("tiny", 4, STATE_PATH)


def test_a_state_that_does_not_exist_is_named(control: Control, client: ServiceClient) -> None:
    control.service.answers["list_checkpoints"] = lambda _: CheckpointListing(checkpoints=[])
    with pytest.raises(NotFoundError, match="weights/only"):
        client.create_training_client_from_state(STATE_PATH)
    with pytest.raises(UnsupportedError, match="user_metadata"):
        client.create_training_client_from_state(STATE_PATH, {"a": "b"})


async def test_a_sampling_client_has_a_sampler_of_its_own(
    control: Control, client: ServiceClient
) -> None:
    base = client.create_sampling_client("tiny")
    pinned = await client.create_sampling_client_async(model_path=SAMPLER_PATH)
    assert base.get_base_model() == "tiny"
    assert pinned.checkpoint_path == SAMPLER_PATH
    assert routes(control).count("list_models") == 2
    pins = [call.pin for call in control.service.sent("list_models")]
    assert [(pin.sampler_id, pin.checkpoint_path) for pin in pins] == [
        ("smp", None),
        ("smp", SAMPLER_PATH),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"base_model": "tiny", "model_path": SAMPLER_PATH},
        {"model_path": "somewhere"},
        {"model_path": STATE_PATH},
        {"base_model": "tiny", "num_replicas": 0},
        {"base_model": "tiny", "scope": ""},
        {"base_model": "tiny", "timeout": -1},
    ],
)
def test_a_sampler_that_cannot_be_made_is_refused_first(
    control: Control, client: ServiceClient, arguments: dict[str, object]
) -> None:
    with pytest.raises(UsageError):
        client.create_sampling_client(**arguments)  # type: ignore[arg-type]
    assert control.service.calls == []


async def test_capabilities_in_both_forms(control: Control, client: ServiceClient) -> None:
    offered = ServerCapabilities(supported_models=[SupportedModel(model_name="tiny")])
    control.service.answers["get_capabilities"] = lambda _: offered
    assert client.get_server_capabilities() == offered
    assert await client.get_server_capabilities_async() == offered


def test_checkpoints_of_any_run(control: Control, client: ServiceClient) -> None:
    assert [each.id for each in client.list_checkpoints("r9")] == ["i"]
    assert control.service.sent("list_checkpoints")[0].query == {"run_id": "r9"}
    with pytest.raises(UsageError, match="run_id"):
        client.get_checkpoint_archive_url(name="only")


def test_closing_closes_training_clients_then_the_transport(control: Control) -> None:
    with ServiceClient(base_url="fake:", plugins=plugins_with([control])) as client:
        training = client.create_lora_training_client("tiny")
    assert control.events[-1] == "closed r1"
    assert control.service.closed
    for ask in (
        lambda: training.optim_step(AdamParams()),
        lambda: client.session_id,
        client.get_server_capabilities,
        lambda: client.list_checkpoints("r1"),
        lambda: client.create_lora_training_client("tiny"),
    ):
        with pytest.raises(UsageError, match="closed"):
            ask()
    client.close()


async def test_aclose_does_the_same(control: Control) -> None:
    async with ServiceClient(base_url="fake:", plugins=plugins_with([control])) as client:
        await client.create_lora_training_client_async("tiny")
    assert control.events[-1] == "closed r1"
    assert control.service.closed
