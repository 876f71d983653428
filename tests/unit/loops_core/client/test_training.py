"""TrainingClient: what it sends, what it refuses, what it knows."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.loops_core.client.fakes import (
    FakeService,
    done,
    failed,
    make_client,
    make_datum,
    output,
)

from loops_core.client.training import TrainingClient
from loops_core.errors import (
    NotFoundError,
    RemoteOpError,
    UnreachableError,
    UnsupportedError,
    UsageError,
)
from loops_core.hooks import hookimpl
from loops_core.protocols import BodyLimits
from loops_core.types.datum import Datum
from loops_core.types.deployment import PolicyVersion
from loops_core.types.operation import ForwardBody, OperationBody
from loops_core.types.training import (
    AdamParams,
    ForwardBackwardOutput,
    InitTrainerServerResponse,
    LoadWeightsResponse,
    OptimStepResponse,
    SaveWeightsForSamplerResponse,
    SaveWeightsResponse,
)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> TrainingClient:
    return make_client(service)


def body_of(service: FakeService, route: str) -> dict[str, object]:
    body = service.sent(route)[-1].body
    assert isinstance(body, OperationBody)
    return body.model_dump(exclude_none=True)


def test_every_body_names_run_and_model(service: FakeService, client: TrainingClient) -> None:
    client.forward_backward([make_datum()], "ppo", {"clip_low_threshold": 0.9}, top_k_logprobs=3)
    sent = body_of(service, "forward_backward")
    del sent["data"]
    assert sent == {
        "seq_id": 1,
        "run_id": "r1",
        "model": "tiny",
        "loss_fn": "ppo",
        "loss_fn_config": {"clip_low_threshold": 0.9},
        "top_k_logprobs": 3,
    }


def test_each_operation_has_its_route_and_body(
    service: FakeService, client: TrainingClient
) -> None:
    common = {"run_id": "r1", "model": "tiny"}
    client.save_state("a", 60)
    client.save_weights_for_sampler("b")
    client.load_state("dir")
    client.load_state_with_optimizer("bt://loops:r1/weights/a")
    client.init_trainer_server(8)
    assert body_of(service, "save_state") == {
        "seq_id": 1,
        **common,
        "name": "a",
        "ttl_seconds": 60,
    }
    assert body_of(service, "save_weights_for_sampler") == {
        "seq_id": 2,
        **common,
        "name": "b",
        "bump_version": True,
    }
    assert body_of(service, "load_state")["path"] == "dir"
    assert body_of(service, "load_state_with_optimizer")["path"] == "bt://loops:r1/weights/a"
    assert body_of(service, "init_trainer_server")["lora_rank"] == 8


async def test_each_operation_resolves_to_its_result(
    service: FakeService, client: TrainingClient
) -> None:
    results = {
        "forward": output(2.0),
        "forward_backward": output(3.0),
        "optim_step": OptimStepResponse(metrics={"step": 1.0}),
        "save_state": SaveWeightsResponse(mode="local", path="p"),
        "save_weights_for_sampler": SaveWeightsForSamplerResponse(version=1, path="p"),
        "load_state": LoadWeightsResponse(step=3),
        "load_state_with_optimizer": LoadWeightsResponse(step=4),
        "init_trainer_server": InitTrainerServerResponse(lora_rank=8),
    }
    service.automatic = lambda call: done(results[call.route.name])
    data = [make_datum()]
    answers = {
        "forward": await (await client.forward_async(data)),
        "forward_backward": await (await client.forward_backward_async(data)),
        "optim_step": await (await client.optim_step_async(AdamParams())),
        "save_state": await (await client.save_state_async("a")),
        "save_weights_for_sampler": await (await client.save_weights_for_sampler_async("a")),
        "load_state": await (await client.load_state_async("p")),
        "load_state_with_optimizer": await (await client.load_state_with_optimizer_async("p")),
        "init_trainer_server": await (await client.init_trainer_server_async(8)),
    }
    assert answers == results


def test_a_key_of_the_caller_s_own_is_the_operation_s(
    service: FakeService, client: TrainingClient
) -> None:
    first = client.forward_backward([make_datum()], idempotency_key="step-7")
    again = client.forward_backward([make_datum()], idempotency_key="step-7")
    assert first.operation_id == again.operation_id
    client.optim_step(AdamParams(), idempotency_key="opt-7")
    assert service.sent("optim_step")[0].idempotency_key == "opt-7"


def test_operations_without_a_key_get_one_each(
    service: FakeService, client: TrainingClient
) -> None:
    for _ in range(5):
        client.optim_step(AdamParams())
    assert len(service.keys) == 5


def wrong(adam_params: AdamParams, **changes: float) -> AdamParams:
    return adam_params.model_copy(update=changes)


Wrong = Callable[[TrainingClient], object]
WRONG: dict[str, tuple[str, Wrong]] = {
    "no data": ("data", lambda c: c.forward_backward([])),
    "one datum": ("data", lambda c: c.forward_backward(make_datum())),  # type: ignore[arg-type]
    "a dict": ("data[0]", lambda c: c.forward([{"model_input": []}])),  # type: ignore[list-item]
    "no loss": ("loss_fn", lambda c: c.forward([make_datum()], "")),
    "a loss that is no name": ("loss_fn", lambda c: c.forward([make_datum()], 3)),  # type: ignore[arg-type]
    "a config that is no dict": (
        "loss_fn_config",
        lambda c: c.forward([make_datum()], "ppo", ["x"]),  # type: ignore[arg-type]
    ),
    "a negative top k": (
        "top_k_logprobs",
        lambda c: c.forward([make_datum()], top_k_logprobs=-1),
    ),
    "a large top k": ("top_k_logprobs", lambda c: c.forward([make_datum()], top_k_logprobs=21)),
    "an empty key": ("idempotency_key", lambda c: c.optim_step(AdamParams(), idempotency_key="")),
    "a key with a newline": (
        "idempotency_key",
        lambda c: c.optim_step(AdamParams(), idempotency_key="a\nb"),
    ),
    "no params": ("adam_params", lambda c: c.optim_step(None)),  # type: ignore[arg-type]
    "a negative rate": (
        "adam_params.learning_rate",
        lambda c: c.optim_step(wrong(AdamParams(), learning_rate=-1.0)),
    ),
    "a path in a name": ("name", lambda c: c.save_state("../up")),
    "an empty name": ("name", lambda c: c.save_weights_for_sampler("")),
    "a dotted name": ("name", lambda c: c.save_weights_and_get_sampling_client(".hidden")),
    "no lifetime": ("ttl_seconds", lambda c: c.save_state("a", 0)),
    "half a second": ("ttl_seconds", lambda c: c.save_state("a", 0.5)),  # type: ignore[arg-type]
    "an empty path": ("path", lambda c: c.load_state("")),
    "a path that is no text": ("path", lambda c: c.load_state(Path("x"))),  # type: ignore[arg-type]
    "rank 0": ("lora_rank", lambda c: c.init_trainer_server(0)),
    "a true rank": ("lora_rank", lambda c: c.init_trainer_server(True)),
    "a trainer's path": (
        "model_path",
        lambda c: c.create_sampling_client("bt://loops:r1/weights/a"),
    ),
    "a loss type": (
        "loss_type_input",
        lambda c: c.forward_backward_custom([make_datum()], print, loss_type_input="logits"),  # type: ignore[arg-type]
    ),
    "a page of nothing": ("page_size", lambda c: c.get_checkpoint_archive_url("a", 0)),
    "neither id nor name": ("checkpoint_id", lambda c: c.get_checkpoint_archive_url()),
    "an unknown target": ("target", lambda c: c.get_checkpoint_archive_url("a", target="moon")),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_argument_is_refused_by_name_before_anything_is_sent(
    service: FakeService, client: TrainingClient, case: str
) -> None:
    name, call = WRONG[case]
    with pytest.raises(UsageError) as caught:
        call(client)
    assert caught.value.field == name
    assert name in caught.value.message
    assert service.calls == []


def test_a_batch_is_split_where_the_transport_has_a_bound(
    service: FakeService, client: TrainingClient
) -> None:
    service.limits = BodyLimits(max_bytes=2500)
    service.automatic = lambda call: done(
        ForwardBackwardOutput(
            loss=1.0, loss_fn_outputs=[{} for _ in data_of(call.body)], metrics={"loss:sum": 2.0}
        )
    )
    data = [make_datum([n] * 40) for n in range(9)]
    future = client.forward_backward(data, idempotency_key="k")
    sent = service.sent("forward_backward")
    assert len(sent) > 1
    assert [datum for call in sent for datum in data_of(call.body)] == data
    assert [call.idempotency_key for call in sent] == [f"k.{n}" for n in range(len(sent))]
    assert future.operation_id == "op0"
    result = future.result()
    assert len(result.loss_fn_outputs) == 9
    assert result.metrics == {"loss:sum": 2.0 * len(sent)}


def data_of(body: object) -> list[Datum]:
    assert isinstance(body, ForwardBody)
    return body.data


def test_dpo_needs_pairs_even_in_one_request(client: TrainingClient) -> None:
    with pytest.raises(UsageError, match="pairs"):
        client.forward_backward([make_datum()] * 3, "dpo")


def test_a_batch_accepted_in_part_says_how_to_complete_it(
    service: FakeService, client: TrainingClient
) -> None:
    service.limits = BodyLimits(max_bytes=2500)
    data = [make_datum([n] * 40) for n in range(9)]

    def refuse_the_third() -> None:
        if len(service.keys) == 2:
            raise UsageError("refused")

    service.on_submit = refuse_the_third
    with pytest.raises(UsageError, match=r"2 of the \d .* accepted: .* idempotency_key='k'"):
        client.forward_backward(data, idempotency_key="k")
    service.on_submit = lambda: None
    client.forward_backward(data, idempotency_key="k")
    assert list(service.keys) == [f"k.{n}" for n in range(len(service.keys))]
    assert client.optim_step(AdamParams()).operation_id


def test_a_failed_part_fails_the_whole_pass(service: FakeService, client: TrainingClient) -> None:
    service.limits = BodyLimits(max_bytes=2500)
    future = client.forward_backward([make_datum([n] * 40) for n in range(9)])
    for operation_id in list(service.statuses):
        service.settle(operation_id, done(output()))
    service.settle("op1", failed("bad shapes"))
    with pytest.raises(RemoteOpError, match="forward_backward op1"):
        future.result()


def test_the_timeout_of_a_split_pass_is_for_the_whole(
    service: FakeService, client: TrainingClient
) -> None:
    service.limits = BodyLimits(max_bytes=2500)
    future = client.forward_backward([make_datum([n] * 40) for n in range(9)])
    service.settle("op0", done(output()))
    before = service.clock.monotonic()
    with pytest.raises(TimeoutError):
        future.result(timeout=7)
    assert service.clock.monotonic() - before == pytest.approx(7)


def test_cancelling_a_split_pass_spares_a_batch_that_has_begun(
    service: FakeService, client: TrainingClient
) -> None:
    service.limits = BodyLimits(max_bytes=2500)
    future = client.forward_backward([make_datum([n] * 40) for n in range(9)])
    service.settle("op0", done(output()))
    assert not future.cancel()
    assert len(service.sent("cancel")) == 1
    other = client.forward_backward([make_datum([n] * 40) for n in range(9)])
    assert other.cancel()


def test_policy_version_asks_the_service(service: FakeService, client: TrainingClient) -> None:
    service.answers["policy_version"] = lambda _: PolicyVersion(policy_version=4)
    service.failures["policy_version"] = [UnreachableError("broke")]
    assert client.policy_version == 4
    service.answers["policy_version"] = lambda _: PolicyVersion()
    with pytest.raises(UnsupportedError):
        _ = client.policy_version


def test_get_info_needs_no_round_trip_and_follows_the_rank(
    service: FakeService, client: TrainingClient
) -> None:
    info = client.get_info()
    assert (info.model_name, info.is_lora, info.lora_rank, info.max_seq_len) == (
        "tiny",
        True,
        4,
        64,
    )
    assert service.calls == []
    service.automatic = lambda _: done(InitTrainerServerResponse(lora_rank=8))
    client.init_trainer_server(8).result()
    assert client.get_info().lora_rank == 8


def test_health_passes_or_raises(service: FakeService, client: TrainingClient) -> None:
    client.health()
    service.failures["health"] = [UnreachableError("gone")]
    with pytest.raises(UnreachableError):
        client.health()
    assert service.sent("health")[0].query == {"base_model": "tiny"}


async def test_a_closed_client_refuses_every_call(
    service: FakeService, client: TrainingClient
) -> None:
    async with client:
        assert client.run_id == "r1"
    client.close()
    await client.aclose()
    asks: list[Callable[[], object]] = [
        lambda: client.forward_backward([make_datum()]),
        lambda: client.optim_step(AdamParams()),
        lambda: client.policy_version,
        client.list_checkpoints,
        client.health,
        client.get_info,
        client.get_tokenizer,
        lambda: client.download_checkpoint("a", dest_dir="somewhere"),
        lambda: client.create_sampling_client("bt://loops:r1/sampler_weights/a"),
    ]
    for ask in asks:
        with pytest.raises(UsageError, match="closed"):
            ask()
    assert service.calls == []


class Resolves:
    """Resolves every base model to one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @hookimpl
    def loops_resolve_model(self, base_model: str) -> Path:
        assert base_model == "tiny"
        return self.directory


def test_a_model_without_a_tokenizer_is_an_error_that_says_so(
    service: FakeService, tmp_path: Path
) -> None:
    client = make_client(service, observers=[Resolves(tmp_path)])
    with pytest.raises(NotFoundError, match="tokenizer") as caught:
        client.get_tokenizer()
    assert caught.value.kind == "tokenizer"


def test_without_transformers_the_extra_to_install_is_named(
    client: TrainingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    with pytest.raises(UnsupportedError, match=r"loops-core\[transformers\]"):
        client.get_tokenizer()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs transformers")
def test_the_tokenizer_is_read_from_the_model_s_directory_once(
    service: FakeService, tmp_path: Path
) -> None:
    vocabulary = '{"[UNK]": 0, "loops": 1, "train": 2}'
    (tmp_path / "tokenizer.json").write_text(
        '{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],'
        ' "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,'
        ' "decoder": null, "model": {"type": "WordLevel", "vocab": ' + vocabulary + ","
        ' "unk_token": "[UNK]"}}'
    )
    (tmp_path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}'
    )
    client = make_client(service, observers=[Resolves(tmp_path)])
    tokenizer = client.get_tokenizer()
    assert tokenizer.convert_tokens_to_ids("train") == 2
    assert client.get_tokenizer() is tokenizer
