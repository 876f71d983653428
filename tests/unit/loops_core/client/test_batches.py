"""Batches that travel in parts, where the service makes one operation of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.unit.loops_core.client.fakes import FakeService, done, make_client, make_datum

from loops_core.client.training import TrainingClient
from loops_core.errors import TransportError, UsageError
from loops_core.protocols import BodyLimits
from loops_core.types.base import WireModel
from loops_core.types.datum import Datum
from loops_core.types.operation import Accepted, ForwardBody
from loops_core.types.routes import BatchPart, Call
from loops_core.types.training import AdamParams, ForwardBackwardOutput


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> TrainingClient:
    return make_client(service)


def data_of(body: object) -> list[Datum]:
    assert isinstance(body, ForwardBody)
    return body.data


def test_parts_of_a_batch_are_one_operation_under_one_key(
    service: FakeService, client: TrainingClient
) -> None:
    service.limits = BodyLimits(max_bytes=3000, is_packed=True, takes_parts=True)
    data = [make_datum([n] * 40) for n in range(9)]
    expected = ForwardBackwardOutput(loss=1.0, loss_fn_outputs=[{} for _ in data])
    service.answers["forward_backward"] = parts_desk(forgets_at=None)
    future = client.forward_backward(data, idempotency_key="k")
    sent = service.sent("forward_backward")
    assert len(sent) > 2
    assert {call.idempotency_key for call in sent} == {"k"}
    assert [call.part for call in sent] == [BatchPart(n, len(sent)) for n in range(len(sent))]
    assert [datum for call in sent for datum in data_of(call.body)] == data
    service.settle("k", done(expected))
    assert future.result() == expected


def test_parts_that_a_service_has_lost_are_sent_again(
    service: FakeService, client: TrainingClient
) -> None:
    service.limits = BodyLimits(max_bytes=3000, is_packed=True, takes_parts=True)
    service.answers["forward_backward"] = parts_desk(forgets_at=3)
    client.forward_backward([make_datum([n] * 40) for n in range(9)], idempotency_key="k")
    indices = [call.part.index for call in service.sent("forward_backward") if call.part]
    count = max(indices) + 1
    assert indices == [*range(count), *range(2)]  # the first two were forgotten


def test_a_refused_part_says_where_in_the_batch_it_begins(
    service: FakeService, client: TrainingClient
) -> None:
    service.limits = BodyLimits(max_bytes=3000, is_packed=True, takes_parts=True)
    desk = parts_desk(forgets_at=None)

    def refuse_the_second(call: Call[WireModel]) -> Accepted:
        if call.part is not None and call.part.index == 1:
            raise UsageError("data[0] is wrong", field="data[0]")
        return desk(call)

    service.answers["forward_backward"] = refuse_the_second
    with pytest.raises(UsageError) as caught:
        client.forward_backward([make_datum([n] * 40) for n in range(9)])
    first = data_of(service.sent("forward_backward")[0].body)
    assert f"is data[{len(first)}] of the batch" in str(caught.value)


def test_a_service_that_always_loses_parts_is_given_up(
    service: FakeService, client: TrainingClient
) -> None:
    service.limits = BodyLimits(max_bytes=3000, is_packed=True, takes_parts=True)
    service.answers["forward_backward"] = lambda _: Accepted(operation_id="k", missing_parts=[0])
    with pytest.raises(TransportError, match="nothing was executed"):
        client.forward_backward([make_datum([n] * 40) for n in range(9)], idempotency_key="k")
    assert client.optim_step(AdamParams()).operation_id  # the place in the queue was given back


def parts_desk(*, forgets_at: int | None) -> Callable[[Call[WireModel]], Accepted]:
    """Return what answers submits as a service that keeps parts, and may forget them once."""
    kept: set[int] = set()
    arrivals = iter(range(1, 1_000))

    def answer(call: Call[WireModel]) -> Accepted:
        assert call.part is not None
        if next(arrivals) == forgets_at:
            kept.clear()
        kept.add(call.part.index)
        missing = [index for index in range(call.part.count) if index not in kept]
        return Accepted(operation_id=call.idempotency_key or "", missing_parts=missing)

    return answer
