"""What the stub promises: its canned answers are answers of the protocol."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from loops_core.types.deployment import RunReply, SessionReply
from loops_core.types.frames import unpack
from loops_core.types.operation import Accepted, OperationStatus, PollReply
from loops_core.types.training import ForwardBackwardOutput
from loops_transport_http.bench.stub import Stub, model_name
from loops_transport_http.bench.workload import BatchSize
from loops_transport_http.wire import names

FEATURES = "tensors/1 poll/1"


@pytest.fixture
def client() -> TestClient:
    return TestClient(Stub(root="http://testserver", features=FEATURES).app())


def _submit(client: TestClient, operation: str = "forward_backward") -> str:
    response = client.post(f"/trainers/run-2x8/{operation}", content=b"{}")
    assert response.headers[names.FEATURES] == FEATURES
    return Accepted.model_validate_json(response.content).operation_id


def test_the_models_name_says_the_size_of_the_results(client: TestClient) -> None:
    SessionReply.model_validate_json(client.post("/v1/loops/sessions").content)
    body = {"session_id": "s", "base_model": model_name(BatchSize(2, 8))}
    run = RunReply.model_validate_json(client.post("/v1/loops/trainers", json=body).content).run

    assert run.base_url is not None
    assert client.get(f"{run.base_url}/health").status_code == 200
    operation_id = _submit(client)
    reply = client.get(f"{run.base_url}/operations/{operation_id}")
    status = OperationStatus.model_validate_json(reply.content)
    assert isinstance(status.result, ForwardBackwardOutput)
    assert [outputs["logprobs"].shape for outputs in status.result.loss_fn_outputs] == [[8], [8]]


@pytest.mark.parametrize("num_ids", [1, 3])
@pytest.mark.parametrize("accept", [names.JSON, names.TENSORS])
def test_a_shared_poll_is_answered_for_every_id(
    client: TestClient, num_ids: int, accept: str
) -> None:
    ids = [_submit(client) for _ in range(num_ids)]

    reply = client.post(
        "/trainers/run-2x8/operations/poll",
        json={"operation_ids": ids},
        headers={"Accept": accept},
    )

    assert reply.headers["Content-Type"] == accept
    polled = (
        unpack(reply.content, PollReply)
        if accept == names.TENSORS
        else PollReply.model_validate_json(reply.content)
    )
    assert list(polled.operations) == ids
    assert {status.status for status in polled.operations.values()} == {"done"}


def test_a_stub_without_features_advertises_none() -> None:
    client = TestClient(Stub(root="http://testserver", features=None).app())
    assert names.FEATURES not in client.post("/v1/loops/sessions").headers

    accepted = client.post("/trainers/run-2x8/forward_backward", content=b"{}")
    operation_id = accepted.json()["operation_id"]
    reply = client.get(
        f"/trainers/run-2x8/operations/{operation_id}", headers={"Accept": names.TENSORS}
    )
    assert reply.headers["Content-Type"] == names.JSON


def test_a_result_is_packed_for_whoever_asks(client: TestClient) -> None:
    reply = client.get(
        f"/trainers/run-2x8/operations/{_submit(client)}",
        headers={"Accept": f"{names.TENSORS}, {names.JSON}"},
    )

    status = unpack(reply.content, OperationStatus)
    assert isinstance(status.result, ForwardBackwardOutput)
    assert len(status.result.loss_fn_outputs) == 2
