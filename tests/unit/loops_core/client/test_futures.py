"""Futures: fetched once, remembered, and usable after every wait that ended early."""

from __future__ import annotations

import asyncio
import threading

import pytest
from tests.unit.loops_core.client.fakes import (
    FakeService,
    JumpingClock,
    done,
    failed,
    make_client,
    make_datum,
    output,
    until_async,
)

from loops_core.client.training import TrainingClient
from loops_core.errors import (
    OperationCancelledError,
    RemoteOpError,
    ResultTimeoutError,
    UnknownRequestError,
    UnreachableError,
    UsageError,
)
from loops_core.types.training import AdamParams, OptimStepResponse

STEPPED = OptimStepResponse(metrics={"step": 1.0})


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> TrainingClient:
    return make_client(service)


def test_a_result_is_fetched_once_and_remembered(
    service: FakeService, client: TrainingClient
) -> None:
    future = client.optim_step(AdamParams())
    service.settle(future.operation_id, done(STEPPED))
    assert future.result() is future.result()
    assert service.num_polls == 1


def test_a_result_in_json_is_read_as_its_type(service: FakeService, client: TrainingClient) -> None:
    future = client.optim_step(AdamParams())
    status = done(STEPPED).model_copy(update={"result": {"metrics": {"step": 1.0}, "new": 1}})
    service.settle(future.operation_id, status)
    assert future.result() == STEPPED


def test_a_timeout_leaves_the_future_usable(service: FakeService, client: TrainingClient) -> None:
    future = client.optim_step(AdamParams())
    with pytest.raises(ResultTimeoutError, match=r"optim_step op0 of run r1") as caught:
        future.result(timeout=5)
    assert isinstance(caught.value, TimeoutError)
    service.settle(future.operation_id, done(STEPPED))
    assert future.result() == STEPPED


def test_a_timeout_is_for_the_whole_wait(service: FakeService, client: TrainingClient) -> None:
    future = client.optim_step(AdamParams())
    before = service.clock.monotonic()
    with pytest.raises(ResultTimeoutError):
        future.result(timeout=75)
    assert service.clock.monotonic() - before == pytest.approx(75)
    assert [call.hold_s for call in service.sent("retrieve")] == [30, 30, 15]


def test_without_a_timeout_the_client_s_ready_timeout_counts(
    service: FakeService, client: TrainingClient
) -> None:
    future = client.optim_step(AdamParams())
    before = service.clock.monotonic()
    with pytest.raises(ResultTimeoutError):
        future.result()
    assert service.clock.monotonic() - before == pytest.approx(3600)


@pytest.mark.parametrize(
    ("timeout", "allowed"), [(0, 1.0), (2, 3.0), (30, 31.0), (32, 33.0), (300, 35.0)]
)
def test_a_poll_may_take_little_longer_than_its_caller_waits(
    service: FakeService, client: TrainingClient, timeout: float, allowed: float
) -> None:
    future = client.optim_step(AdamParams())
    with pytest.raises(ResultTimeoutError):
        future.result(timeout=timeout)
    first = next(call for call in service.calls if call.route.name == "retrieve")
    assert first.timeout_s == pytest.approx(allowed)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5", True])
def test_a_timeout_that_is_no_duration_is_refused(client: TrainingClient, timeout: float) -> None:
    future = client.optim_step(AdamParams())
    with pytest.raises(UsageError, match="timeout"):
        future.result(timeout=timeout)


def test_an_interrupt_leaves_the_future_usable(
    service: FakeService, client: TrainingClient
) -> None:
    future = client.optim_step(AdamParams())
    service.failures["retrieve"] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        future.result()
    service.settle(future.operation_id, done(STEPPED))
    assert future.result() == STEPPED


async def test_a_cancelled_task_leaves_the_future_usable() -> None:
    service = FakeService(holds="really")
    client = make_client(service)
    future = await client.optim_step_async(AdamParams())
    task = asyncio.create_task(future.result_async())
    await until_async(lambda: service.num_polls == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    service.settle(future.operation_id, done(STEPPED))
    assert await future == STEPPED


def test_every_waiter_gets_its_own_copy_of_the_error(
    service: FakeService, client: TrainingClient
) -> None:
    future = client.optim_step(AdamParams())
    service.settle(future.operation_id, failed("no gradients"))
    errors: list[RemoteOpError] = []
    for _ in range(2):
        with pytest.raises(RemoteOpError) as caught:
            future.result()
        errors.append(caught.value)
    first, second = errors
    assert first is not second
    assert first.fields() == second.fields()
    assert (first.operation_id, first.operation, first.run_id) == ("op0", "optim_step", "r1")
    assert first.error_class == "ValueError"


def test_exception_returns_the_error_and_none_after_success(
    service: FakeService, client: TrainingClient
) -> None:
    good, bad = client.optim_step(AdamParams()), client.optim_step(AdamParams())
    service.settle(good.operation_id, done(STEPPED))
    service.settle(bad.operation_id, failed("no gradients"))
    assert good.exception() is None
    assert isinstance(bad.exception(), RemoteOpError)


def test_an_expired_result_is_final(service: FakeService, client: TrainingClient) -> None:
    future = client.optim_step(AdamParams())
    del service.statuses[future.operation_id]
    for _ in range(2):
        with pytest.raises(UnknownRequestError):
            future.result()
    assert service.num_polls == 1


def test_a_done_answer_without_a_result_is_an_error_that_says_so(
    service: FakeService, client: TrainingClient
) -> None:
    future = client.init_trainer_server(4)
    service.settle(future.operation_id, done(STEPPED).model_copy(update={"result": None}))
    with pytest.raises(RemoteOpError, match="no InitTrainerServerResponse"):
        future.result()


def test_polls_go_on_after_failures_that_pass(service: FakeService, client: TrainingClient) -> None:
    future = client.optim_step(AdamParams())
    service.settle(future.operation_id, done(STEPPED))
    service.failures["retrieve"] = [UnreachableError("the line broke") for _ in range(5)]
    assert future.result() == STEPPED
    assert isinstance(service.clock, JumpingClock)
    assert len(service.clock.naps) == 5
    assert service.clock.naps[-1] > service.clock.naps[0]


def test_a_timeout_names_the_failure_that_polls_met(
    service: FakeService, client: TrainingClient
) -> None:
    future = client.optim_step(AdamParams())
    service.failures["retrieve"] = [UnreachableError("the line broke") for _ in range(99)]
    with pytest.raises(ResultTimeoutError, match="the line broke"):
        future.result(timeout=3)


def test_a_service_that_does_not_hold_polls_is_not_hit_in_a_loop() -> None:
    service = FakeService(holds="never")
    future = make_client(service).optim_step(AdamParams())
    with pytest.raises(ResultTimeoutError):
        future.result(timeout=60)
    assert 60 <= service.num_polls < 75


def test_done_asks_the_service_once_without_waiting(
    service: FakeService, client: TrainingClient
) -> None:
    future = client.optim_step(AdamParams())
    assert not future.done()
    assert service.sent("retrieve")[-1].hold_s == 0
    service.settle(future.operation_id, done(STEPPED))
    assert future.done()
    assert future.done()
    assert service.num_polls == 2


def test_done_is_false_while_the_service_cannot_be_reached(
    service: FakeService, client: TrainingClient
) -> None:
    future = client.optim_step(AdamParams())
    service.failures["retrieve"] = [UnreachableError("the line broke")]
    assert not future.done()


def test_a_cancelled_operation_never_runs_and_raises(
    service: FakeService, client: TrainingClient
) -> None:
    future = client.optim_step(AdamParams())
    assert future.cancel()
    assert future.cancel()
    with pytest.raises(OperationCancelledError, match="optim_step op0"):
        future.result()
    assert len(service.sent("cancel")) == 1
    assert service.num_polls == 0


def test_cancel_comes_too_late_for_a_finished_operation(
    service: FakeService, client: TrainingClient
) -> None:
    future = client.optim_step(AdamParams())
    service.settle(future.operation_id, done(STEPPED))
    assert not future.cancel()
    assert future.result() == STEPPED


def test_a_callback_added_late_is_called_at_once(
    service: FakeService, client: TrainingClient
) -> None:
    future = client.optim_step(AdamParams())
    service.settle(future.operation_id, done(STEPPED))
    future.result()
    seen: list[object] = []
    future.add_done_callback(seen.append)
    assert seen == [future]


def test_a_callback_is_called_though_nobody_waits() -> None:
    service = FakeService(holds="really")
    client = make_client(service)
    future = client.optim_step(AdamParams())
    called = threading.Event()
    future.add_done_callback(lambda _: called.set())
    service.settle(future.operation_id, done(STEPPED))
    assert called.wait(10)
    client.close()


def test_a_callback_that_raises_harms_nobody(
    service: FakeService, client: TrainingClient, caplog: pytest.LogCaptureFixture
) -> None:
    future = client.forward([make_datum()])
    service.settle(future.operation_id, done(output()))
    future.result()
    future.add_done_callback(lambda _: 1 / 0)
    assert future.result().loss == 1.0
    assert "ZeroDivisionError" in caplog.text


def test_after_close_an_unsettled_future_raises_and_a_settled_one_answers(
    service: FakeService, client: TrainingClient
) -> None:
    settled, unsettled = client.optim_step(AdamParams()), client.optim_step(AdamParams())
    service.settle(settled.operation_id, done(STEPPED))
    settled.result()
    client.close()
    assert settled.result() == STEPPED
    for ask in (unsettled.result, unsettled.done, unsettled.cancel):
        with pytest.raises(UsageError, match="closed"):
            ask()
    with pytest.raises(UsageError, match="closed"):
        unsettled.add_done_callback(print)


def test_a_poll_names_run_and_address(service: FakeService, client: TrainingClient) -> None:
    future = client.optim_step(AdamParams())
    service.settle(future.operation_id, done(STEPPED))
    future.result()
    poll = service.sent("retrieve")[0]
    assert (poll.run_id, poll.base_url) == ("r1", "fake:/runs/r1")
