"""The application answers in the protocol's shapes, whatever it is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

import httpx
import pytest
from tests.unit.loops_transport_http.server.conftest import key_header
from tests.unit.loops_transport_http.server.life import DATUM, Json, done, open_run

from loops_core.types import routes
from loops_core.types.datum import Datum
from loops_core.types.frames import pack, unpack
from loops_core.types.operation import ForwardBody, OperationStatus
from loops_core.types.training import ForwardBackwardOutput
from loops_core.worker.service import Service
from loops_transport_http.server.app import Front
from loops_transport_http.wire import bodies, names

RIGHT: Final = json.dumps({"data": [DATUM]}).encode()


async def test_a_submit_is_202_with_its_place_and_a_repeat_is_the_same(
    http: httpx.AsyncClient,
) -> None:
    run = await open_run(http)
    headers = {names.IDEMPOTENCY_KEY: "a key/1"}
    url = f"{run['base_url']}/forward_backward"
    first = await http.post(url, json={"data": [DATUM]}, headers=headers)
    again = await http.post(url, json={"data": [DATUM]}, headers=headers)
    assert (first.status_code, first.json()["operation_id"]) == (202, "a key/1")
    assert again.json() == first.json()
    assert first.headers["location"] == f"/trainers/{run['id']}/operations/a%20key%2F1"
    ended = await http.get(first.headers["location"])
    assert ended.json()["status"] == "done"
    other = await http.post(url, json={"data": [DATUM, DATUM]}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "ConflictError")
    assert other.json()["fields"] == {"first_operation_id": "a key/1"}


async def test_a_failed_operation_is_200_with_its_error(http: httpx.AsyncClient) -> None:
    run = await open_run(http)
    _, status = await done(http, run["base_url"], "optim_step", adam_params={})
    assert status["status"] == "error"
    assert isinstance(status["error"], str)
    assert status["error_class"] == "UsageError"


async def test_unknown_fields_missing_fields_and_the_old_name_of_the_run_are_taken(
    http: httpx.AsyncClient,
) -> None:
    run = await open_run(http)
    body: Json = {"data": [DATUM], "trainer_server_id": run["id"], "new": {"deep": [1]}}
    _, result = await done(http, run["base_url"], "forward", **body)
    assert result["loss"] > 0
    wrong = {"data": [DATUM], "trainer_server_id": "another"}
    assert (await http.post(f"{run['base_url']}/forward", json=wrong)).status_code == 422


@pytest.mark.parametrize(
    ("content", "headers", "field"),
    [
        (b"{", {}, "body"),
        (b"[]", {}, "body"),
        (b'{"data": 3}', {}, "data"),
        (b'{"data": [{"model_input": {"chunks": [{"type": "?"}]}}]}', {}, "data[0].model_input"),
        (b'{"data": []}', {"Content-Type": "text/plain"}, "Content-Type"),
        (b'{"data": []}', {"Content-Encoding": "gzip"}, "Content-Encoding"),
        (b'{"data": []}', {"Content-Encoding": "zstd"}, "Content-Encoding"),
        (b"LOOPSF1\n", {"Content-Type": names.TENSORS}, "body"),
        (b'{"data": []}', {names.PART: "1"}, names.PART),
        (b'{"data": []}', {names.RUN_ID: "another"}, names.RUN_ID),
        (
            json.dumps({"data": [DATUM]}).encode(),
            {names.IDEMPOTENCY_KEY: "k" * 300},
            "idempotency_key",
        ),
    ],
)
async def test_a_wrong_request_is_422_with_its_field_and_is_final(
    content: bytes, headers: dict[str, str], field: str, http: httpx.AsyncClient
) -> None:
    run = await open_run(http)
    url = f"{run['base_url']}/forward"
    reply = await http.post(url, content=content, headers=headers)
    assert reply.status_code == 422
    assert reply.json()["field"].startswith(field)
    assert reply.headers[names.ERROR_SOURCE] == names.FINAL_ERROR
    assert reply.headers[names.ERROR_CODE] == reply.json()["code"]


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "/nope", 404, None),
        ("POST", "/trainers/x/nope", 404, None),
        ("GET", "/trainers//health", 404, None),
        ("DELETE", "/v1/teams", 405, "GET"),
        ("GET", "/trainers/x/forward", 405, "POST"),
        ("PUT", "/openapi.json", 405, "GET"),
        ("POST", "/files/token/leaf", 405, "GET, HEAD"),
    ],
)
async def test_a_path_or_method_that_is_none_is_final(
    method: str, path: str, status: int, allowed: str | None, http: httpx.AsyncClient
) -> None:
    reply = await http.request(method, path)
    assert reply.status_code == status
    assert reply.headers.get("allow") == allowed
    assert reply.headers[names.ERROR_SOURCE] == names.FINAL_ERROR
    assert reply.headers[names.FEATURES].startswith("tensors/1 poll/1 parts/1")
    assert reply.json()["message"]


async def test_health_is_200_for_the_right_model_only(http: httpx.AsyncClient) -> None:
    url = f"{(await open_run(http))['base_url']}/health"
    assert (await http.get(url)).status_code == 200
    assert (await http.get(url, params={"base_model": "mock-tiny"})).status_code == 200
    wrong = await http.get(url, params={"base_model": "another"})
    assert 400 <= wrong.status_code < 500


async def test_packed_and_compressed_bodies_mean_the_same_as_json(http: httpx.AsyncClient) -> None:
    trainer = (await open_run(http))["base_url"]
    _, plain = await done(http, trainer, "forward", data=[DATUM])
    content = pack(ForwardBody(data=[Datum.model_validate(DATUM)]))
    for body, encoding in ((content, {}), (bodies.compress(content), {"Content-Encoding": "zstd"})):
        headers = {"Content-Type": names.TENSORS, **encoding}
        accepted = await http.post(f"{trainer}/forward", content=body, headers=headers)
        ended = await http.get(
            f"{trainer}/operations/{accepted.json()['operation_id']}",
            headers={"Accept": names.TENSORS},
        )
        assert ended.headers["content-type"] == names.TENSORS
        result = unpack(ended.content, OperationStatus).result
        read = ForwardBackwardOutput.model_validate(result)
        assert read == ForwardBackwardOutput.model_validate(plain)


async def test_a_long_reply_is_compressed_for_who_asks(http: httpx.AsyncClient) -> None:
    trainer = (await open_run(http))["base_url"]
    tensor = {"data": [6] * 1000, "dtype": "int64", "shape": [1000]}
    chunks = [{"type": "encoded_text", "tokens": [5] * 1000}]
    datum = {"model_input": {"chunks": chunks}, "loss_fn_inputs": {"target_tokens": tensor}}
    operation_id, plain = await done(http, trainer, "forward", data=[datum] * 5)
    url = f"{trainer}/operations/{operation_id}"
    zipped = await http.get(url, headers={"Accept-Encoding": "zstd"})
    assert zipped.headers["content-encoding"] == "zstd"
    assert zipped.json()["result"] == plain  # httpx decompresses
    unzipped = await http.get(url, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in unzipped.headers


async def test_one_poll_asks_for_many_and_tells_those_that_have_ended(
    http: httpx.AsyncClient,
) -> None:
    trainer = (await open_run(http))["base_url"]
    ids = [(await done(http, trainer, "forward", data=[DATUM]))[0] for _ in range(3)]
    reply = await http.post(f"{trainer}/operations/poll", json={"operation_ids": [*ids, "nobody"]})
    operations: dict[str, Json] = reply.json()["operations"]
    assert {operation_id: operations[operation_id]["status"] for operation_id in operations} == {
        **dict.fromkeys(ids, "done"),
        "nobody": "error",
    }
    assert operations["nobody"]["error_body"]["code"] == "UnknownRequestError"


async def test_a_batch_in_parts_is_one_operation_once_all_are_there(
    http: httpx.AsyncClient,
) -> None:
    trainer = (await open_run(http))["base_url"]
    _, whole = await done(http, trainer, "forward", data=[DATUM, DATUM])

    async def send(part: str) -> Json:
        headers = {names.IDEMPOTENCY_KEY: "batch", names.PART: part}
        reply = await http.post(f"{trainer}/forward", json={"data": [DATUM]}, headers=headers)
        assert reply.status_code == 202, reply.text
        return reply.json()

    assert (await send("1/2"))["missing_parts"] == [0]
    assert (await http.get(f"{trainer}/operations/batch")).status_code == 404
    assert (await send("0/2"))["missing_parts"] == []
    _, joined = await done(http, trainer, None, operation_id="batch")
    assert joined == whole


async def test_a_sample_waits_for_its_floor_inside_the_request(http: httpx.AsyncClient) -> None:
    run = await open_run(http)
    wanted = {"session_id": run["session_id"], "run_id": run["id"]}
    sampler = (await http.post("/v1/loops/samplers", json=wanted)).json()["sampler"]
    body = {"prompt": [3], "max_tokens": 2}
    waiting = asyncio.ensure_future(
        http.post(f"{sampler['base_url']}/sample", json=body, headers={"X-Min-Policy-Version": "1"})
    )
    await done(http, run["base_url"], "save_weights_for_sampler", name="first")
    reply = await waiting
    assert reply.headers[names.POLICY_VERSION] == "1"
    assert reply.json()["choices"][0]["finish_reason"] in ("stop", "length")
    version = await http.get(f"{sampler['base_url']}/trainers_policy_version")
    assert version.json() == {"policy_version": 1}
    models = (await http.get(f"{sampler['base_url']}/v1/models")).json()["data"]
    assert [model["parent"] for model in models] == [None, "mock-tiny"]


async def test_who_waits_is_let_go_when_the_client_has_gone(
    service: Service, make_front: Callable[..., Front], http: httpx.AsyncClient
) -> None:
    run = await open_run(http)
    wanted = {"session_id": run["session_id"], "run_id": run["id"]}
    sampler = (await http.post("/v1/loops/samplers", json=wanted)).json()["sampler"]
    body = json.dumps({"prompt": [3], "max_tokens": 1}).encode()
    messages = iter([{"type": "http.request", "body": body}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    path = f"/samplers/{sampler['id']}/sample"
    headers = {**key_header("alice"), names.MIN_POLICY_VERSION: "9", "Content-Length": "40"}
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "server": ("loops.test", 80),
        "headers": [(name.lower().encode(), text.encode()) for name, text in headers.items()],
    }
    async with asyncio.timeout(10):  # a third of the time that a sample waits for its floor
        await make_front()(scope, receive, send)
    assert sent[0]["status"] == 502


async def test_the_local_run_is_made_by_the_first_init_and_is_its_owners(
    http: httpx.AsyncClient,
) -> None:
    assert (await http.get("/trainers/local/health")).status_code == 200
    early = await http.post("/trainers/local/forward", json={"data": [DATUM]})
    assert early.status_code == 404
    await done(http, "/trainers/local", "init_trainer_server", lora_rank=4)
    _, result = await done(http, "/trainers/local", "forward", data=[DATUM], run_id="ignored")
    assert result["loss"] > 0
    sampled = await http.post("/samplers/local/sample", json={"prompt": [3], "max_tokens": 1})
    assert sampled.headers[names.POLICY_VERSION] == "0"
    bobs = await http.get("/trainers/local/policy_version", headers=key_header("bob"))
    assert bobs.status_code == 404
    (run,) = (await http.get("/v1/loops/runs")).json()["runs"]
    await http.post(f"/v1/loops/runs/{run['id']}/deactivate")
    await done(http, "/trainers/local", "init_trainer_server", lora_rank=2)
    assert len((await http.get("/v1/loops/runs")).json()["runs"]) == 2


async def test_an_unforeseen_failure_is_500_in_the_one_shape_and_tells_nothing(
    http: httpx.AsyncClient, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service._handlers[routes.LIST_RUNS.name] = _break  # pyright: ignore[reportPrivateUsage]
    reply = await http.get("/v1/loops/runs")
    assert (reply.status_code, reply.json()["code"]) == (500, "LoopsError")
    assert "a secret" not in reply.text
    assert "a secret" in caplog.text
    assert "alices-key" not in caplog.text


def _break(*_: object) -> Any:
    raise RuntimeError("a secret")


async def test_addresses_are_those_that_the_client_asked(http: httpx.AsyncClient) -> None:
    run = await open_run(http)
    url = f"/v1/loops/runs/{run['id']}"
    seen = (await http.get(url, headers={"Host": "proxy.test:81"})).json()["run"]["base_url"]
    assert seen == f"http://proxy.test:81/trainers/{run['id']}"
    strange = (await http.get(url, headers={"Host": "a/b?c"})).json()["run"]["base_url"]
    assert strange.endswith(f"/trainers/{run['id']}")
    assert "?" not in strange
