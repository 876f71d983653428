"""What a service of ours cannot do is refused by name; teams and hints are taken."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.conftest import Setup

from loops_core import ServiceClient
from loops_core.errors import UnsupportedError, UsageError


@pytest.mark.parametrize(
    ("options", "wishes", "named"),
    [
        ({}, {"replicas": 2}, "replicas=2"),
        ({}, {"sampler_num_replicas": 2}, "num_replicas=2"),
        ({}, {"base_checkpoint": "hf://a/b"}, "base_checkpoint='hf://a/b'"),
        ({}, {"scope": "s"}, "scope='s'"),
        ({"availability_model": "spot"}, {}, "availability_model="),
        ({"internal_backend_version": "7"}, {}, "debug_version='7'"),
    ],
)
def test_a_wish_that_needs_machines_is_refused_by_name(
    setup: Setup, options: dict[str, Any], wishes: dict[str, Any], named: str
) -> None:
    with (
        ServiceClient(base_url=setup.url, **options) as service,
        pytest.raises(UnsupportedError, match=f"{named}.* is not offered here"),
    ):
        service.create_lora_training_client(setup.base_model, rank=4, **wishes)


def test_a_sampler_of_several_copies_is_refused_by_name(
    setup: Setup, service: ServiceClient
) -> None:
    with pytest.raises(UnsupportedError, match="num_replicas=2 is not offered here"):
        service.create_sampling_client(setup.base_model, num_replicas=2)


def test_an_unknown_team_is_refused_with_the_callers_own(setup: Setup) -> None:
    with (
        ServiceClient(base_url=setup.url, team="nobody") as service,
        pytest.raises(UsageError, match="'nobody': there is no such team; yours: ") as caught,
    ):
        service.create_lora_training_client(setup.base_model, rank=4)
    own = str(caught.value).rpartition("yours: ")[2].strip("'")
    with ServiceClient(base_url=setup.url, team=own, reuse_from_run_id="gone") as service:
        trainer = service.create_lora_training_client(setup.base_model, rank=4)
        assert trainer.save_weights_and_get_sampling_client("a").result() is not None
