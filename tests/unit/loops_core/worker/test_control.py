"""What a trainer or a sampler is asked to be: granted, taken as a hint, or refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loops_core.clock import SystemClock
from loops_core.errors import UnsupportedError, UsageError
from loops_core.plugins import Plugins
from loops_core.protocols import BackendConfig
from loops_core.types import routes
from loops_core.types.deployment import CreateSamplerBody, CreateTrainerBody
from loops_core.types.routes import Call
from loops_core.worker.local_store import LocalStore
from loops_core.worker.service import Service, ServiceParts

MODEL = "mock-tiny"
CONTEXT = 2048


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    plugins = Plugins.load()
    parts = ServiceParts(
        backend=plugins.open_backend("mock", BackendConfig()),
        plugins=plugins,
        store=LocalStore(tmp_path / "checkpoints"),
        directory=None,
        clock=SystemClock(),
    )
    opened = Service(parts)
    yield opened
    opened.close()


@pytest.fixture
def session_id(service: Service) -> str:
    return service.handle(Call(route=routes.CREATE_SESSION)).session.id


@pytest.mark.parametrize("hint", ["reuse_from_run_id", "reuse_from_session_id"])
def test_capacity_that_cannot_be_taken_over_is_no_reason_to_refuse_a_trainer(
    service: Service, session_id: str, hint: str
) -> None:
    options: dict[str, Any] = {hint: "gone"}
    body = CreateTrainerBody(session_id=session_id, base_model=MODEL, **options)
    assert service.handle(Call(route=routes.CREATE_TRAINER, body=body)).run.id != "gone"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("replicas", 2),
        ("availability_model", "spot"),
        ("base_checkpoint", "hf://a/b"),
        ("scope", "s"),
        ("debug_version", "7"),
    ],
)
def test_machines_and_weights_that_are_not_here_are_refused_by_name(
    service: Service, session_id: str, option: str, value: object
) -> None:
    options: dict[str, Any] = {option: value}
    body = CreateTrainerBody(session_id=session_id, base_model=MODEL, **options)
    with pytest.raises(UnsupportedError, match=option):
        service.handle(Call(route=routes.CREATE_TRAINER, body=body))


@pytest.mark.parametrize(
    ("option", "value"),
    [("num_replicas", 2), ("availability_model", "spot"), ("scope", "s"), ("debug_version", "7")],
)
def test_a_sampler_that_needs_machines_is_refused_by_name(
    service: Service, session_id: str, option: str, value: object
) -> None:
    options: dict[str, Any] = {option: value}
    body = CreateSamplerBody(session_id=session_id, base_model=MODEL, **options)
    with pytest.raises(UnsupportedError, match=option):
        service.handle(Call(route=routes.CREATE_SAMPLER, body=body))


def test_a_sampler_may_be_asked_for_any_length_of_its_models_context(
    service: Service, session_id: str
) -> None:
    body = CreateSamplerBody(session_id=session_id, base_model=MODEL, max_seq_length=CONTEXT)
    assert service.handle(Call(route=routes.CREATE_SAMPLER, body=body)).sampler.base_model == MODEL
    longer = body.model_copy(update={"max_seq_length": CONTEXT + 1})
    with pytest.raises(UsageError, match=f"max_seq_length is {CONTEXT + 1}: expected at most"):
        service.handle(Call(route=routes.CREATE_SAMPLER, body=longer))
