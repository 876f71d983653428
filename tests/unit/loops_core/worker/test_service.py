"""The service itself: what is another owner's does not exist; a create's key makes one thing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from loops_core.clock import SystemClock
from loops_core.errors import ConflictError, NotFoundError, UsageError
from loops_core.plugins import Plugins
from loops_core.protocols import BackendConfig
from loops_core.types import routes
from loops_core.types.datum import Datum, ModelInput
from loops_core.types.deployment import CreateSamplerBody, CreateTrainerBody, ValidateCheckpointBody
from loops_core.types.operation import (
    Accepted,
    ForwardBody,
    InitTrainerServerBody,
    LoadStateBody,
    OperationBody,
    OperationKind,
    OperationStatus,
    OptimStepBody,
    PollBody,
    SaveStateBody,
    SaveWeightsForSamplerBody,
)
from loops_core.types.routes import BatchPart, Call, SamplerPin
from loops_core.types.sampling import SampleBody
from loops_core.types.training import AdamParams, ForwardBackwardOutput, SaveWeightsResponse
from loops_core.worker.local_store import LocalStore
from loops_core.worker.service import Service, ServiceParts

pytestmark = pytest.mark.slow

ALICE: Final = "alice"
BOB: Final = "bob"
MODEL: Final = "mock-tiny"
HOLD_S: Final = 30.0


@pytest.fixture
def open_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    opened: list[Service] = []

    def open_one(**parts: Any) -> Service:
        plugins = Plugins.load()
        service = Service(
            ServiceParts(
                backend=plugins.open_backend("mock", BackendConfig()),
                plugins=plugins,
                store=LocalStore(tmp_path / "checkpoints"),
                directory=None,
                clock=SystemClock(),
                **parts,
            )
        )
        opened.append(service)
        return service

    yield open_one
    for service in opened:
        service.close()


@pytest.fixture
def service(open_service: Callable[..., Service]) -> Service:
    return open_service()


def new_run(service: Service, owner: str, *, key: str | None = None, rank: int = 2) -> str:
    session = service.handle(Call(route=routes.CREATE_SESSION), owner=owner).session
    body = CreateTrainerBody(session_id=session.id, base_model=MODEL, lora_rank=rank, seed=1)
    call = Call(route=routes.CREATE_TRAINER, body=body, idempotency_key=key)
    run_id = service.handle(call, owner=owner).run.id
    do(
        service,
        owner,
        run_id,
        OperationKind.INIT_TRAINER_SERVER,
        InitTrainerServerBody(lora_rank=2),
    )
    return run_id


def submit(
    service: Service,
    owner: str,
    run_id: str,
    kind: OperationKind,
    body: OperationBody,
    *,
    key: str | None = None,
    part: BatchPart | None = None,
) -> Accepted:
    call = Call(route=routes.SUBMIT[kind], body=body, run_id=run_id, idempotency_key=key, part=part)
    return service.handle(call, owner=owner)


def wait(service: Service, owner: str, run_id: str, operation_id: str) -> OperationStatus:
    call = Call(
        route=routes.RETRIEVE,
        path_args={"operation_id": operation_id},
        run_id=run_id,
        hold_s=HOLD_S,
    )
    return service.handle(call, owner=owner)


def do(
    service: Service, owner: str, run_id: str, kind: OperationKind, body: OperationBody
) -> OperationStatus:
    accepted = submit(service, owner, run_id, kind, body)
    status = wait(service, owner, run_id, accepted.operation_id)
    assert status.status == "done", status.error
    return status


def save(
    service: Service, owner: str, run_id: str, kind: OperationKind, body: OperationBody
) -> str:
    """Save a checkpoint; return its address."""
    result = do(service, owner, run_id, kind, body).result
    assert isinstance(result, SaveWeightsResponse)
    return result.path


def batch(*rows: list[int]) -> ForwardBody:
    return ForwardBody(data=[Datum(model_input=ModelInput.from_ints(row)) for row in rows])


def foreign_calls(run_id: str, session_id: str, sampler_id: str, ids: dict[str, str]) -> Any:
    """Yield a call of every route that names something, each naming something of Alice's."""
    bodies: dict[str, OperationBody] = {
        "init_trainer_server": InitTrainerServerBody(lora_rank=2),
        "forward": batch([1, 2]),
        "forward_backward": batch([1, 2]),
        "optim_step": OptimStepBody(adam_params=AdamParams()),
        "save_state": SaveStateBody(name="x"),
        "save_weights_for_sampler": SaveWeightsForSamplerBody(name="x"),
        "load_state": LoadStateBody(path=ids["trainer_path"]),
        "load_state_with_optimizer": LoadStateBody(path=ids["trainer_path"]),
    }
    for kind, route in routes.SUBMIT.items():
        yield Call(route=route, body=bodies[kind], run_id=run_id)
    operation = {"operation_id": ids["operation"]}
    yield Call(route=routes.RETRIEVE, path_args=operation, run_id=run_id)
    yield Call(route=routes.POLL, body=PollBody(operation_ids=[ids["operation"]]), run_id=run_id)
    yield Call(route=routes.CANCEL, path_args=operation, run_id=run_id)
    yield Call(route=routes.HEALTH, run_id=run_id)
    yield Call(route=routes.POLICY_VERSION, run_id=run_id)
    sample = SampleBody(prompt=[1])
    for pin in (
        SamplerPin(run_id=run_id),
        SamplerPin(sampler_id=sampler_id),
        SamplerPin(checkpoint_path=ids["sampler_path"]),
    ):
        yield Call(route=routes.SAMPLE, body=sample, pin=pin)
        yield Call(route=routes.LIST_MODELS, pin=pin)
        yield Call(route=routes.SAMPLER_POLICY_VERSION, pin=pin)
        yield Call(route=routes.SAMPLER_HEALTH, pin=pin)
        yield Call(route=routes.WAKE, pin=pin)
    yield Call(route=routes.GET_SESSION, path_args={"session_id": session_id})
    yield Call(route=routes.GET_RUN, path_args={"run_id": run_id})
    yield Call(route=routes.DEACTIVATE_RUN, path_args={"run_id": run_id})
    yield Call(route=routes.GET_SAMPLER, path_args={"sampler_id": sampler_id})
    yield Call(route=routes.GET_DEPLOYMENT, path_args={"deployment_id": run_id})
    yield Call(
        route=routes.GET_MODEL_DEPLOYMENT,
        path_args={"model_id": sampler_id, "deployment_id": sampler_id},
    )
    checkpoint = {"checkpoint_id": ids["checkpoint"]}
    yield Call(route=routes.GET_CHECKPOINT_FILES, path_args=checkpoint)
    yield Call(route=routes.GET_CHECKPOINT_SOURCE, path_args=checkpoint)
    yield Call(route=routes.LIST_CHECKPOINTS, query={"run_id": run_id})
    yield Call(route=routes.LIST_CHECKPOINTS, query={"checkpoint_path": ids["trainer_path"]})
    for path in (ids["trainer_path"], ids["sampler_path"]):
        yield Call(
            route=routes.VALIDATE_CHECKPOINT, body=ValidateCheckpointBody(checkpoint_path=path)
        )
    trainer = CreateTrainerBody(session_id=session_id, base_model=MODEL)
    yield Call(route=routes.CREATE_TRAINER, body=trainer)
    bobs = ids["bobs_session"]
    for wanted in (
        CreateSamplerBody(session_id=bobs, run_id=run_id),
        CreateSamplerBody(session_id=bobs, model_path=ids["sampler_path"]),
        CreateSamplerBody(session_id=session_id, base_model=MODEL),
    ):
        yield Call(route=routes.CREATE_SAMPLER, body=wanted)


NAMING_NOTHING: Final = {
    routes.LIST_TEAMS.name,
    routes.CREATE_SESSION.name,
    routes.LIST_RUNS.name,
    routes.LIST_SAMPLERS.name,
    routes.LIST_DEPLOYMENTS.name,
    routes.GET_CAPABILITIES.name,
}


def test_what_is_another_owners_does_not_exist_on_any_route(service: Service) -> None:
    run_id = new_run(service, ALICE)
    session_id = service.handle(
        Call(route=routes.GET_RUN, path_args={"run_id": run_id}), owner=ALICE
    ).run.session_id
    body = CreateSamplerBody(session_id=session_id, run_id=run_id)
    sampler = service.handle(Call(route=routes.CREATE_SAMPLER, body=body), owner=ALICE).sampler
    saved = save(service, ALICE, run_id, OperationKind.SAVE_STATE, SaveStateBody(name="a"))
    published = save(
        service,
        ALICE,
        run_id,
        OperationKind.SAVE_WEIGHTS_FOR_SAMPLER,
        SaveWeightsForSamplerBody(name="a"),
    )
    listing = service.handle(
        Call(route=routes.LIST_CHECKPOINTS, query={"run_id": run_id}), owner=ALICE
    )
    passed = submit(service, ALICE, run_id, OperationKind.FORWARD, batch([1, 2, 3]))
    bobs = service.handle(Call(route=routes.CREATE_SESSION), owner=BOB).session
    ids = {
        "operation": passed.operation_id,
        "checkpoint": listing.checkpoints[0].id,
        "trainer_path": saved,
        "sampler_path": published,
        "bobs_session": bobs.id,
    }
    calls = list(foreign_calls(run_id, session_id, sampler.id, ids))
    assert {call.route.name for call in calls} | NAMING_NOTHING == {
        route.name for route in routes.ROUTES
    }
    for call in calls:
        with pytest.raises(NotFoundError):
            service.handle(call, owner=BOB)
        with pytest.raises(NotFoundError):
            asyncio.run(service.handle_async(call, owner=BOB))
    for owner, count in ((ALICE, 1), (BOB, 0)):
        assert len(service.handle(Call(route=routes.LIST_RUNS), owner=owner).runs) == count
        samplers = service.handle(Call(route=routes.LIST_SAMPLERS), owner=owner).samplers
        assert len(samplers) == count
        deployments = service.handle(Call(route=routes.LIST_DEPLOYMENTS), owner=owner).deployments
        assert len(deployments) == count
    everything = Call(route=routes.LIST_CHECKPOINTS, query={"base_model": MODEL})
    assert service.handle(everything, owner=BOB).checkpoints == []
    assert service.handle(Call(route=routes.HEALTH, run_id=run_id), owner=ALICE)


def test_a_load_of_another_owners_checkpoint_fails_as_if_there_were_none(service: Service) -> None:
    alices, bobs = new_run(service, ALICE), new_run(service, BOB)
    saved = save(service, ALICE, alices, OperationKind.SAVE_STATE, SaveStateBody(name="a"))
    accepted = submit(service, BOB, bobs, OperationKind.LOAD_STATE, LoadStateBody(path=saved))
    status = wait(service, BOB, bobs, accepted.operation_id)
    assert status.error_class == "NotFoundError"


def test_a_create_repeated_under_its_key_makes_nothing_new(service: Service) -> None:
    session = service.handle(Call(route=routes.CREATE_SESSION), owner=ALICE).session
    body = CreateTrainerBody(session_id=session.id, base_model=MODEL)
    call = Call(route=routes.CREATE_TRAINER, body=body, idempotency_key="k")
    first, second = (service.handle(call, owner=ALICE).run for _ in range(2))
    assert first == second
    assert len(service.handle(Call(route=routes.LIST_RUNS), owner=ALICE).runs) == 1
    other = Call(
        route=routes.CREATE_TRAINER,
        body=body.model_copy(update={"lora_rank": 3}),
        idempotency_key="k",
    )
    with pytest.raises(ConflictError, match="used before"):
        service.handle(other, owner=ALICE)


def test_keys_of_different_owners_do_not_meet(service: Service) -> None:
    assert new_run(service, ALICE, key="k") != new_run(service, BOB, key="k")


def test_a_batch_in_parts_is_one_operation_with_the_result_of_the_whole(service: Service) -> None:
    run_id = new_run(service, ALICE)
    rows = [[1, 2, 3], [4, 5], [6, 7, 8, 9]]
    whole = do(service, ALICE, run_id, OperationKind.FORWARD, batch(*rows)).result
    kind = OperationKind.FORWARD
    parts = [BatchPart(index, 3) for index in range(3)]
    missing = [
        submit(service, ALICE, run_id, kind, batch(row), key="k", part=part).missing_parts
        for row, part in zip(rows, parts, strict=True)
    ]
    assert missing == [[1, 2], [2], []]
    joined = wait(service, ALICE, run_id, "k").result
    assert isinstance(joined, ForwardBackwardOutput)
    assert joined == whole
    again = [
        submit(service, ALICE, run_id, kind, batch(row), key="k", part=part).missing_parts
        for row, part in zip(rows, parts, strict=True)
    ]
    assert again[-1] == []  # all of it once more: the first operation is found


def test_a_part_that_is_wrong_lets_nothing_of_its_batch_run(service: Service) -> None:
    run_id = new_run(service, ALICE)
    kind = OperationKind.FORWARD_BACKWARD
    submit(service, ALICE, run_id, kind, batch([1, 2]), key="k", part=BatchPart(0, 2))
    with pytest.raises(UsageError, match="token id"):
        submit(service, ALICE, run_id, kind, batch([1, 10**6]), key="k", part=BatchPart(1, 2))
    accepted = submit(
        service, ALICE, run_id, OperationKind.OPTIM_STEP, OptimStepBody(adam_params=AdamParams())
    )
    status = wait(service, ALICE, run_id, accepted.operation_id)
    assert status.status == "error"  # nothing was added up


def test_a_shared_poll_tells_of_those_that_ended_and_of_those_nobody_knows(
    service: Service,
) -> None:
    run_id = new_run(service, ALICE)
    ids = [
        submit(service, ALICE, run_id, OperationKind.FORWARD, batch([1, 2])).operation_id
        for _ in range(3)
    ]
    wait(service, ALICE, run_id, ids[-1])
    call = Call(
        route=routes.POLL,
        body=PollBody(operation_ids=[*ids, "nobody"]),
        run_id=run_id,
        hold_s=HOLD_S,
    )
    for reply in (
        service.handle(call, owner=ALICE),
        asyncio.run(service.handle_async(call, owner=ALICE)),
    ):
        assert {key: status.status for key, status in reply.operations.items()} == {
            **dict.fromkeys(ids, "done"),
            "nobody": "error",
        }
        unknown = reply.operations["nobody"].error_body
        assert unknown is not None
        assert unknown.code == "UnknownRequestError"


def test_a_deactivated_run_answers_no_more_and_its_checkpoints_stay(service: Service) -> None:
    run_id = new_run(service, ALICE)
    do(service, ALICE, run_id, OperationKind.SAVE_STATE, SaveStateBody(name="a"))
    end = Call(route=routes.DEACTIVATE_RUN, path_args={"run_id": run_id})
    for _ in range(2):
        assert service.handle(end, owner=ALICE).run.status.name == "INACTIVE"
    with pytest.raises(NotFoundError, match="no such active run"):
        submit(service, ALICE, run_id, OperationKind.FORWARD, batch([1, 2]))
    found = Call(route=routes.GET_DEPLOYMENT, path_args={"deployment_id": run_id})
    assert service.handle(found, owner=ALICE).deployment.status.name == "STOPPED"
    listing = Call(route=routes.LIST_CHECKPOINTS, query={"run_id": run_id})
    assert len(service.handle(listing, owner=ALICE).checkpoints) == 1


def test_only_served_models_can_be_used_and_no_directory_can_be_read(
    open_service: Callable[..., Service], tmp_path: Path
) -> None:
    service = open_service(served={"small": MODEL}, local_paths=False)
    session = service.handle(Call(route=routes.CREATE_SESSION)).session
    names = service.handle(Call(route=routes.GET_CAPABILITIES)).supported_models
    assert [model.model_name for model in names] == ["small"]
    for name in (MODEL, str(tmp_path)):
        body = CreateTrainerBody(session_id=session.id, base_model=name)
        with pytest.raises(NotFoundError, match="not served here: expected one of small"):
            service.handle(Call(route=routes.CREATE_TRAINER, body=body))
    body = CreateTrainerBody(session_id=session.id, base_model="small")
    run_id = service.handle(Call(route=routes.CREATE_TRAINER, body=body)).run.id
    with pytest.raises(UsageError, match="reads no directories"):
        submit(
            service, "local", run_id, OperationKind.LOAD_STATE, LoadStateBody(path=str(tmp_path))
        )


def test_what_a_trainer_is_asked_for_is_honoured_or_refused_by_name(service: Service) -> None:
    run_id = new_run(service, ALICE)
    init = InitTrainerServerBody(lora_rank=2, base_model="mock-other")
    with pytest.raises(UsageError, match="'mock-other' is not this trainer's"):
        submit(service, ALICE, run_id, OperationKind.INIT_TRAINER_SERVER, init)
    session = service.handle(Call(route=routes.CREATE_SESSION), owner=ALICE).session
    body = CreateTrainerBody(session_id=session.id, base_model=MODEL, scale_down_delay_seconds=60)
    with pytest.raises(UsageError, match="scale_down_delay_seconds=60"):
        service.handle(Call(route=routes.CREATE_TRAINER, body=body), owner=ALICE)
