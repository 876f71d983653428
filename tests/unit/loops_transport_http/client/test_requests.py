"""Calls as requests: addresses, headers and bodies as the published protocol has them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_core.errors import UsageError
from loops_core.types import routes
from loops_core.types.datum import Datum, ModelInput
from loops_core.types.deployment import CreateSamplerBody, CreateTrainerBody
from loops_core.types.operation import (
    ForwardBody,
    OperationKind,
    SaveStateBody,
    SaveWeightsForSamplerBody,
)
from loops_core.types.routes import BatchPart, Call, SamplerPin
from loops_core.types.sampling import SampleBody
from loops_core.types.tensor import TensorData
from loops_transport_http.client.requests import Address, WireRequest, to_request
from loops_transport_http.wire import bodies, names
from loops_transport_http.wire.features import Features

HERE = Address(base_url="https://api.test/base", api_key="secret")
NOTHING = Features()
EVERYTHING = Features(tensors=True, poll=True, parts=True, zstd=True)


def request_of(call: Call[Any], features: Features = NOTHING, **options: bool) -> WireRequest:
    return to_request(call, HERE, features, **options)


def body_of(call: Call[Any]) -> dict[str, Any]:
    return json.loads(request_of(call).content)


def forward(**fields: Any) -> Call[Any]:
    targets = TensorData(data=[2, 3], dtype="int64", shape=[2])
    datum = Datum(model_input=ModelInput.from_ints([1, 2]), loss_fn_inputs={"t": targets})
    body = ForwardBody(data=[datum], seq_id=4, run_id="r1", model="m")
    route = routes.SUBMIT[OperationKind.FORWARD]
    return Call(route=route, base_url="/trainers/r1", body=body, run_id="r1", **fields)


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("/trainers/r1", "https://api.test/base/trainers/r1/health"),
        ("https://t.test/deep/path/", "https://t.test/deep/path/health"),
        (None, "https://api.test/base/health"),
    ],
)
def test_a_call_goes_below_the_address_that_it_names(base_url: str | None, expected: str) -> None:
    assert request_of(Call(route=routes.HEALTH, base_url=base_url)).url == expected


@given(st.text(min_size=1))
def test_a_path_argument_stays_one_segment(operation_id: str) -> None:
    call = Call(route=routes.RETRIEVE, base_url="/t", path_args={"operation_id": operation_id})
    url = request_of(call).url
    assert url.isascii()
    assert url.count("/") == "https://api.test/base/t/operations/x".count("/")
    assert not {"?", "#", " "} & set(url)


def test_only_what_a_team_makes_goes_to_the_team() -> None:
    here = Address(base_url="http://h")
    create = Call(route=routes.CREATE_SESSION, team_id="t/1")
    read = Call(route=routes.LIST_CHECKPOINTS, query={"run_id": "a b"}, team_id="t/1")
    assert here.url_of(create) == "http://h/v1/teams/t%2F1/loops/sessions"
    assert here.url_of(read) == "http://h/v1/loops/checkpoints?run_id=a+b"


def test_every_request_says_who_asks_and_reads_marked_errors() -> None:
    headers = request_of(Call(route=routes.CREATE_SESSION, idempotency_key="k")).headers
    assert headers["Authorization"] == "Api-Key secret"
    assert headers["User-Agent"].startswith("loops/")
    assert headers[names.ACCEPT_ERROR] == "1"
    assert headers[names.IDEMPOTENCY_KEY] == "k"


def test_without_a_key_nothing_stands_in_for_it() -> None:
    keyless = to_request(Call(route=routes.HEALTH), Address(base_url="http://h"), Features())
    assert "Authorization" not in keyless.headers


def test_the_key_is_in_no_repr() -> None:
    assert "secret" not in repr(HERE)


def test_a_session_is_created_without_a_body() -> None:
    request = request_of(Call(route=routes.CREATE_SESSION))
    assert request.content == b""
    assert "Content-Type" not in request.headers


def test_polls_say_how_long_they_may_be_held() -> None:
    call = Call(route=routes.RETRIEVE, path_args={"operation_id": "o"}, hold_s=2.5)
    assert request_of(call).headers[names.HOLD] == "2.5"
    assert names.HOLD not in request_of(Call(route=routes.HEALTH, hold_s=2.5)).headers


@pytest.mark.parametrize(
    ("pin", "expected"),
    [
        (SamplerPin(run_id="r", sampler_id="s"), {names.RUN_ID: "r"}),
        (SamplerPin(sampler_id="s"), {names.SAMPLER_ID: "s"}),
        (SamplerPin(sampler_id="s", checkpoint_path="bt://p"), {names.CHECKPOINT_PATH: "bt://p"}),
        (SamplerPin(run_id="r", min_policy_version=0), {names.RUN_ID: "r"}),
        (
            SamplerPin(run_id="r", min_policy_version=3),
            {names.RUN_ID: "r", names.MIN_POLICY_VERSION: "3"},
        ),
    ],
)
def test_a_pin_travels_as_headers(pin: SamplerPin, expected: dict[str, str]) -> None:
    headers = request_of(Call(route=routes.SAMPLE, body=SampleBody(prompt=[1]), pin=pin)).headers
    all_names = (names.RUN_ID, names.SAMPLER_ID, names.CHECKPOINT_PATH, names.MIN_POLICY_VERSION)
    assert {name: headers[name] for name in all_names if name in headers} == expected


def test_an_affinity_key_travels_as_the_session_header() -> None:
    call = Call(route=routes.SAMPLE, body=SampleBody(prompt=[1]), affinity_key="a")
    assert request_of(call).headers["X-Baseten-Session-ID"] == "a"


def test_a_sample_omits_what_was_not_said() -> None:
    sent = body_of(Call(route=routes.SAMPLE, body=SampleBody(prompt=[1], n=2)))
    assert sent == {
        "prompt": [1],
        "n": 2,
        "temperature": 1.0,
        "top_p": 1.0,
        "logprobs": 0,
        "return_tokens_as_token_ids": True,
    }


def test_a_pass_is_sent_as_published_clients_send_it() -> None:
    assert body_of(forward()) == {
        "seq_id": 4,
        "run_id": "r1",
        "model": "m",
        "data": [
            {
                "model_input": {"chunks": [{"type": "encoded_text", "tokens": [1, 2]}]},
                "loss_fn_inputs": {"t": {"data": [2, 3], "dtype": "int64", "shape": [2]}},
                "routed_experts_ref": None,
            }
        ],
        "loss_fn": "cross_entropy",
        "loss_fn_config": None,
        "top_k_logprobs": 0,
    }


def test_creates_send_nothing_that_nobody_asked_for() -> None:
    trainer = Call(
        route=routes.CREATE_TRAINER, body=CreateTrainerBody(session_id="s", base_model="m")
    )
    sampler = Call(route=routes.CREATE_SAMPLER, body=CreateSamplerBody(session_id="s", run_id="r"))
    assert body_of(trainer).keys() == {
        "session_id",
        "base_model",
        "lora_rank",
        "replicas",
        "availability_model",
    }
    assert body_of(sampler) == {"session_id": "s", "run_id": "r"}


def test_a_save_sends_ttl_and_bump_as_published_clients_do() -> None:
    publish = routes.SUBMIT[OperationKind.SAVE_WEIGHTS_FOR_SAMPLER]
    bare = Call(route=publish, body=SaveWeightsForSamplerBody(name="n", bump_version=True))
    kept = SaveWeightsForSamplerBody(name="n", ttl_seconds=5, bump_version=False)
    assert "ttl_seconds" not in body_of(bare)
    assert body_of(bare)["bump_version"] is True
    assert body_of(Call(route=publish, body=kept))["ttl_seconds"] == 5
    state = Call(route=routes.SUBMIT[OperationKind.SAVE_STATE], body=SaveStateBody(name="n"))
    assert body_of(state)["ttl_seconds"] is None


def test_a_part_says_which_it_is() -> None:
    assert request_of(forward(part=BatchPart(1, 3))).headers[names.PART] == "1/3"


def test_nothing_that_was_not_advertised_is_used() -> None:
    request = request_of(forward(), compresses=True)
    assert request.headers["Content-Type"] == names.JSON
    assert request.headers["Accept"] == names.JSON
    assert "Content-Encoding" not in request.headers


def test_what_was_advertised_is_used() -> None:
    call = forward()
    packed = request_of(call, EVERYTHING)
    assert packed.headers["Content-Type"] == names.TENSORS
    assert bodies.decode(packed.content, ForwardBody, media_type=names.TENSORS) == call.body
    poll = request_of(Call(route=routes.RETRIEVE, path_args={"operation_id": "o"}), EVERYTHING)
    assert names.TENSORS in poll.headers["Accept"]


def test_bodies_are_compressed_only_where_that_was_asked_for() -> None:
    pytest.importorskip("zstandard")
    plain = request_of(forward(), EVERYTHING)
    small = request_of(forward(), EVERYTHING, compresses=True)
    assert "Content-Encoding" not in plain.headers
    assert "zstd" not in plain.headers["Accept-Encoding"]
    assert small.headers["Content-Encoding"] == "zstd"
    assert "zstd" in small.headers["Accept-Encoding"]
    assert bodies.decompress(small.content, max_bytes=10_000) == plain.content


@pytest.mark.parametrize("value", ["two\nlines", "caf\u00e9", "nul\0", "blank "])
def test_what_no_header_can_carry_is_refused_by_name(value: str) -> None:
    with pytest.raises(UsageError, match="Idempotency-Key"):
        request_of(Call(route=routes.HEALTH, idempotency_key=value))
    keyed = Address(base_url="http://h", api_key=f"secret{value}")
    with pytest.raises(UsageError, match="api_key") as raised:
        to_request(Call(route=routes.HEALTH), keyed, NOTHING)
    assert "secret" not in str(raised.value)
