"""What the tests of the watch share: a watch, and a service that it sees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.loops_mock.watching.loop import URL

from loops_core import ServiceClient, TrainingClient
from loops_mock.watching import Watch


@pytest.fixture
def watch() -> Iterator[Watch]:
    with Watch() as watch:
        yield watch


@pytest.fixture
def service(watch: Watch) -> Iterator[ServiceClient]:
    with watch.lending():
        service = ServiceClient(base_url=URL)
    with service:
        yield service


@pytest.fixture
def trainer(service: ServiceClient) -> TrainingClient:
    return service.create_lora_training_client("mock-tiny", rank=2, seed=0)
