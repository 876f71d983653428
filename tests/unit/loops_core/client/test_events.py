"""Observers are told each thing once, whichever path a result arrived on."""

from __future__ import annotations

import asyncio
import threading

import pytest
from tests.unit.loops_core.client.fakes import (
    FakeService,
    done,
    failed,
    make_client,
    make_datum,
    make_link,
    output,
    threaded_service,
)

from loops_core.client.link import TrainerLink
from loops_core.client.training import TrainingClient
from loops_core.errors import OperationCancelledError, RemoteOpError, UnreachableError
from loops_core.hooks import (
    CheckpointEvent,
    MetricsEvent,
    OperationEvent,
    RunEvent,
    hookimpl,
)
from loops_core.protocols import BodyLimits
from loops_core.types.training import (
    AdamParams,
    OptimStepResponse,
    SaveWeightsForSamplerResponse,
    SaveWeightsResponse,
    WandbConfig,
)

STEPPED = done(OptimStepResponse(metrics={"step": 1.0, "grad_norm": 0.5}))


class Diary:
    """An observer that writes everything down."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.finished: list[OperationEvent] = []
        self.metrics: list[MetricsEvent] = []
        self.saved: list[CheckpointEvent] = []

    @hookimpl
    def loops_run_closed(self, event: RunEvent) -> None:
        self.lines.append(f"closed {event.run_id}")

    @hookimpl
    def loops_operation_submitted(self, event: OperationEvent) -> None:
        self.lines.append(f"submitted {event.kind} {event.operation_id}")

    @hookimpl
    def loops_operation_finished(self, event: OperationEvent) -> None:
        self.lines.append(f"finished {event.kind} {event.operation_id}")
        self.finished.append(event)

    @hookimpl
    def loops_metrics(self, event: MetricsEvent) -> None:
        self.lines.append(f"metrics {event.kind} {event.operation_id}")
        self.metrics.append(event)

    @hookimpl
    def loops_checkpoint_saved(self, event: CheckpointEvent) -> None:
        self.saved.append(event)


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService, diary: Diary) -> TrainingClient:
    return make_client(service, observers=[diary])


def test_an_operation_is_told_from_submit_to_metrics(
    service: FakeService, client: TrainingClient, diary: Diary
) -> None:
    future = client.optim_step(AdamParams())
    assert diary.lines == ["submitted optim_step op0"]
    service.clock.sleep(3.0)
    service.settle("op0", STEPPED)
    future.result()
    future.result()
    assert diary.lines[1:] == ["finished optim_step op0", "metrics optim_step op0"]
    assert diary.finished[0].seconds == 3.0
    assert diary.finished[0].error is None
    assert diary.metrics[0].metrics == {"step": 1.0, "grad_norm": 0.5}


def test_the_metrics_of_a_pass_hold_its_loss(
    service: FakeService, client: TrainingClient, diary: Diary
) -> None:
    service.automatic = lambda _: done(output(2.5, active_tokens=3.0))
    client.forward_backward([make_datum()]).result()
    assert diary.metrics[0].metrics == {"loss": 2.5, "active_tokens": 3.0}


def test_a_split_pass_finishes_part_by_part_and_has_metrics_once(
    service: FakeService, client: TrainingClient, diary: Diary
) -> None:
    service.limits = BodyLimits(max_bytes=2500)
    service.automatic = lambda _: done(output(2.0, **{"loss:sum": 1.0}))
    client.forward_backward([make_datum([n] * 40) for n in range(9)]).result()
    parts = len(service.sent("forward_backward"))
    assert len(diary.finished) == parts > 1
    assert [event.metrics for event in diary.metrics] == [{"loss": 2.0, "loss:sum": parts}]


def test_a_failure_is_told_with_its_error(
    service: FakeService, client: TrainingClient, diary: Diary
) -> None:
    service.automatic = lambda _: failed("no gradients")
    client.optim_step(AdamParams()).exception()
    assert isinstance(diary.finished[0].error, RemoteOpError)
    assert diary.metrics == []


def test_a_cancel_is_told_once(client: TrainingClient, diary: Diary) -> None:
    future = client.optim_step(AdamParams())
    future.cancel()
    future.exception()
    assert [type(event.error) for event in diary.finished] == [OperationCancelledError]


def test_saves_are_told_with_name_address_and_target(
    service: FakeService, client: TrainingClient, diary: Diary
) -> None:
    service.automatic = lambda _: done(SaveWeightsResponse(mode="local", path="p1"))
    client.save_state("a").result()
    service.automatic = lambda _: done(SaveWeightsForSamplerResponse(version=1, path="p2"))
    client.save_weights_for_sampler("b").result()
    saved = [(event.name, event.path, event.target.value) for event in diary.saved]
    assert saved == [("a", "p1", "trainer"), ("b", "p2", "sampler")]


async def test_every_path_tells_once(diary: Diary) -> None:
    service = threaded_service()
    client = make_client(service, observers=[diary])
    future = await client.optim_step_async(AdamParams())
    called = asyncio.Event()
    loop = asyncio.get_running_loop()
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(called.set))
    thread = threading.Thread(target=future.result)
    thread.start()
    tasks = [asyncio.create_task(future.result_async()) for _ in range(4)]
    await asyncio.sleep(0)
    service.settle("op0", STEPPED)
    await asyncio.gather(called.wait(), *tasks)
    thread.join(60)
    assert len(diary.finished) == len(diary.metrics) == 1
    client.close()


class Fails:
    """An observer that fails at everything."""

    @hookimpl
    def loops_operation_submitted(self, event: OperationEvent) -> None:
        raise RuntimeError("no diary")

    @hookimpl
    def loops_operation_finished(self, event: OperationEvent) -> None:
        raise RuntimeError("no diary")


def test_an_observer_s_failure_is_not_the_operation_s(
    service: FakeService, diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(service, observers=[Fails(), diary])
    service.automatic = lambda _: STEPPED
    client.optim_step(AdamParams()).result()
    assert len(diary.finished) == 1
    assert "no diary" in caplog.text


def test_nothing_is_told_after_the_end(
    service: FakeService, client: TrainingClient, diary: Diary
) -> None:
    client.optim_step(AdamParams())
    client.close()
    client.close()
    assert diary.lines == ["submitted optim_step op0", "closed r1"]


def logging_link(service: FakeService, diary: Diary) -> TrainerLink:
    return make_link(service, observers=[diary], wandb_config=WandbConfig(project="p"))


def test_close_collects_what_has_finished_though_nobody_asked(diary: Diary) -> None:
    service = threaded_service()
    service.automatic = lambda _: STEPPED
    client = TrainingClient(logging_link(service, diary))
    for _ in range(5):
        client.optim_step(AdamParams())
    client.close()
    assert [event.operation_id for event in diary.metrics] == [f"op{n}" for n in range(5)]
    assert diary.lines[-1] == "closed r1"


def test_close_does_not_wait_for_what_still_runs(service: FakeService, diary: Diary) -> None:
    client = TrainingClient(logging_link(service, diary))
    client.optim_step(AdamParams())
    client.close()
    assert diary.metrics == []
    assert diary.lines[-1] == "closed r1"


async def test_metrics_are_told_in_the_order_of_the_operations(diary: Diary) -> None:
    service = threaded_service()
    client = TrainingClient(logging_link(service, diary))
    service.automatic = lambda call: (
        STEPPED if call.route.name == "optim_step" else done(output(1.0))
    )
    for _ in range(10):
        await client.forward_backward_async([make_datum()])
        await client.optim_step_async(AdamParams())
    await client.aclose()
    kinds = [event.kind.value for event in diary.metrics]
    assert kinds == ["forward_backward", "optim_step"] * 10


def test_a_submit_that_was_never_accepted_is_not_told(
    service: FakeService, client: TrainingClient, diary: Diary
) -> None:
    service.failures["optim_step"] = [UnreachableError("broke") for _ in range(999)]
    with pytest.raises(UnreachableError):
        client.optim_step(AdamParams())
    assert diary.lines == []
