"""What single fields promise: the protocol's names and defaults, and bounds that are told."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError

from loops_core.types.checkpoint import (
    Checkpoint,
    CheckpointAddress,
    CheckpointTarget,
    LoraAdapterConfig,
    is_checkpoint_name,
)
from loops_core.types.datum import ExternalRef
from loops_core.types.deployment import Run, SupportedModel
from loops_core.types.frames import pack, unpack
from loops_core.types.operation import OPERATIONS, OperationBody, OperationKind, OperationStatus
from loops_core.types.routes import ROUTES
from loops_core.types.sampling import SampledSequence, SamplingParams
from loops_core.types.tensor import TensorData
from loops_core.types.training import AdamParams, ForwardBackwardOutput, InitTrainerServerResponse


def test_adam_has_the_published_defaults() -> None:
    assert AdamParams().model_dump() == {
        "learning_rate": 1e-4,
        "beta1": 0.9,
        "beta2": 0.95,
        "eps": 1e-12,
        "weight_decay": 0.0,
        "grad_clip_norm": 1.0,
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", -1e-9),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("learning_rate", None),
        ("beta1", 1.0),
        ("beta1", -0.1),
        ("beta1", math.nan),
        ("beta2", 1.0),
        ("eps", 0.0),
        ("eps", math.inf),
        ("weight_decay", -1.0),
        ("grad_clip_norm", -1.0),
        ("grad_clip_norm", math.inf),
    ],
)
def test_adam_settings_without_a_meaning_are_refused(field: str, value: float | None) -> None:
    with pytest.raises(ValidationError, match=field):
        AdamParams.model_validate({field: value})


def test_sampling_has_the_published_defaults() -> None:
    assert SamplingParams().model_dump() == {
        "max_tokens": None,
        "seed": None,
        "stop": None,
        "temperature": 1.0,
        "top_k": -1,
        "top_p": 1.0,
        "structured_outputs": None,
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", math.nan),
        ("stop", [1.5]),
        ("stop", 5),
        ("seed", "x"),
    ],
)
def test_sampling_settings_without_a_meaning_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        SamplingParams.model_validate({field: value})


@pytest.mark.parametrize("stop", ["a", ["a", "b"], [1, 2], [], None])
def test_stops_are_texts_or_token_ids(stop: object) -> None:
    assert SamplingParams.model_validate({"stop": stop}).stop == stop


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_and_metrics_are_finite(value: float) -> None:
    with pytest.raises(ValidationError, match="loss"):
        ForwardBackwardOutput(loss=value)
    with pytest.raises(ValidationError, match="grad_norm"):
        ForwardBackwardOutput(metrics={"grad_norm": value})


def test_a_required_rank_is_missed() -> None:
    with pytest.raises(ValidationError, match="lora_rank"):
        InitTrainerServerResponse.model_validate({"step": 0})


def test_the_adapters_rank_is_r_in_json() -> None:
    config = LoraAdapterConfig(rank=8)
    assert json.loads(config.model_dump_json(by_alias=True)) == {"r": 8}
    assert LoraAdapterConfig.model_validate({"r": 8}) == config


def test_routed_experts_have_their_wire_name() -> None:
    reference = ExternalRef(uri="bt://loops:r/sequences/o", version=1)
    sequence = SampledSequence(routed_experts=reference)
    assert sequence.routed_experts == reference
    written = sequence.model_dump(by_alias=True)
    assert written["routed_experts_ref"] == reference.model_dump()
    assert SampledSequence.model_validate(written) == sequence


def test_a_listing_without_rank_or_model_is_refused() -> None:
    fields = {
        "run_id": "r",
        "checkpoint_id": "c",
        "checkpoint_type": "trainer",
        "created_at": "2025-01-01T00:00:00Z",
        "base_model": "m",
        "lora_adapter_config": {"r": 8},
    }
    assert Checkpoint.model_validate(fields).lora_adapter_config.rank == 8
    for name in fields:
        with pytest.raises(ValidationError, match=name):
            Checkpoint.model_validate({**fields, name: None})


def test_older_names_are_read() -> None:
    assert OperationBody.model_validate({"trainer_server_id": "r"}).run_id == "r"
    supported = SupportedModel.model_validate({"model_name": "m", "max_seq_len": 5})
    assert supported.max_context_length == 5


def test_defaults_are_not_shared() -> None:
    first, second = (
        Run(id=name, session_id="s", base_model="m", base_url=None) for name in ("a", "b")
    )
    first.status.name = "ENDED"
    assert second.status.name == "ACTIVE"


@pytest.mark.parametrize("name", ["a", "step-1", "1.0_b", "x" * 128, "_", "-a"])
def test_names_of_checkpoints(name: str) -> None:
    assert is_checkpoint_name(name)
    address = CheckpointAddress("run-1", CheckpointTarget.SAMPLER, name)
    assert str(address) == f"bt://loops:run-1/sampler_weights/{name}"
    assert CheckpointAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "a/b", "../a", "a b", "a\n", "x" * 129, "ä", "a\x00", "a\\b", "~"]
)
def test_names_that_no_checkpoint_has(name: str) -> None:
    assert not is_checkpoint_name(name)
    with pytest.raises(ValueError, match="not a checkpoint address"):
        CheckpointAddress.parse(f"bt://loops:r/weights/{name}")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "bt://loops:r/weights",
        "bt://loops:/weights/a",
        "bt://loops:r/sequences/a",
        "bt://loops:r/weights/a/b",
        "bt://tinker:r/weights/a",
        "/weights/a",
        "file:///a",
        "bt://loops:a/b/weights/c",
    ],
)
def test_what_is_no_address_is_refused_with_the_form(path: str) -> None:
    with pytest.raises(ValueError, match=r"bt://loops:<run_id>/weights/<name>"):
        CheckpointAddress.parse(path)


def test_every_operation_is_in_the_table_once() -> None:
    assert list(OPERATIONS) == list(OperationKind)
    assert all(spec.kind is kind for kind, spec in OPERATIONS.items())
    assert {spec.path for spec in OPERATIONS.values()} == {f"/{kind}" for kind in OperationKind}


def test_every_route_has_a_name_and_an_address_of_its_own() -> None:
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    assert len({(route.service, route.method, route.path) for route in ROUTES}) == len(ROUTES)


def test_a_status_writes_the_whole_of_a_typed_result() -> None:
    tensors = {"logprobs": TensorData(data=[0.5, None], dtype="float32", shape=[2])}
    output = ForwardBackwardOutput(loss=1.5, loss_fn_outputs=[tensors])
    text = OperationStatus(status="done", result=output).model_dump_json()
    read = OperationStatus.model_validate_json(text).result
    assert isinstance(read, dict)
    assert ForwardBackwardOutput.model_validate(read) == output


def test_a_status_that_names_its_operation_gives_the_typed_result_back() -> None:
    tensors = {"logprobs": TensorData(data=[0.5, None], dtype="float32", shape=[2])}
    output = ForwardBackwardOutput(loss=1.5, loss_fn_outputs=[tensors])
    status = OperationStatus(status="done", operation=OperationKind.FORWARD, result=output)
    assert OperationStatus.model_validate_json(status.model_dump_json()) == status
    back = unpack(pack(status), OperationStatus)
    assert back == status
    assert isinstance(back.result, ForwardBackwardOutput)
    raw = {"status": "done", "operation": "forward", "result": {"loss": "high"}}
    assert OperationStatus.model_validate(raw).result == {"loss": "high"}
