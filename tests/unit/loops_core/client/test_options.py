"""What a service client asks of all that it makes: arguments, the environment, teams."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.loops_core.client.control import Control
from tests.unit.loops_core.client.fakes import plugins_with

from loops_core.client.service import ServiceClient
from loops_core.errors import UsageError
from loops_core.types.deployment import CreateSamplerBody, CreateTrainerBody, Team, TeamListing

VARIABLES = {
    "reuse_from_run_id": "LOOPS_REUSE_FROM_RUN_ID",
    "reuse_from_session_id": "LOOPS_REUSE_FROM_SESSION_ID",
    "availability_model": "LOOPS_AVAILABILITY_MODEL",
    "internal_backend_version": "INTERNAL_LOOPS_BACKEND_VERSION",
}


@pytest.fixture
def control() -> Control:
    control = Control()
    teams = TeamListing(teams=[Team(id="t1", name="red"), Team(id="t2", name="blue")])
    control.service.answers["list_teams"] = lambda _: teams
    return control


def opened(control: Control, **options: Any) -> ServiceClient:
    clock = control.service.clock
    return ServiceClient(base_url="fake:", plugins=plugins_with([control]), clock=clock, **options)


def trainer_body(control: Control) -> CreateTrainerBody:
    body = control.service.sent("create_trainer")[-1].body
    assert isinstance(body, CreateTrainerBody)
    return body


def sampler_body(control: Control) -> CreateSamplerBody:
    body = control.service.sent("create_sampler")[-1].body
    assert isinstance(body, CreateSamplerBody)
    return body


@pytest.mark.parametrize(
    ("option", "value", "field"),
    [
        ("reuse_from_run_id", "r0", "reuse_from_run_id"),
        ("reuse_from_session_id", "s0", "reuse_from_session_id"),
        ("availability_model", "spot", "availability_model"),
        ("internal_backend_version", "7", "debug_version"),
    ],
)
def test_an_option_is_sent_with_what_is_made_and_the_environment_stands_in(
    control: Control, monkeypatch: pytest.MonkeyPatch, option: str, value: str, field: str
) -> None:
    opened(control, **{option: value}).create_lora_training_client("tiny")
    assert getattr(trainer_body(control), field) == value
    monkeypatch.setenv(VARIABLES[option], value)
    opened(control).create_lora_training_client("tiny")
    assert getattr(trainer_body(control), field) == value
    if field != "reuse_from_run_id":  # samplers have no such field
        opened(control).create_sampling_client("tiny")
        assert getattr(sampler_body(control), field) == value


def test_wishes_are_sent_as_they_are(control: Control) -> None:
    client = opened(control)
    client.create_lora_training_client(
        "tiny", replicas=2, sampler_num_replicas=3, scope="s", base_checkpoint="hf://a/b"
    )
    body = trainer_body(control)
    assert (body.replicas, body.scope, body.base_checkpoint) == (2, "s", "hf://a/b")
    paired = sampler_body(control)
    assert (paired.run_id, paired.num_replicas, paired.scope) == ("r1", 3, "s")
    client.create_sampling_client("tiny", num_replicas=2, scope="s", max_seq_len=9)
    alone = sampler_body(control)
    assert (alone.num_replicas, alone.scope, alone.max_seq_length) == (2, "s", 9)


def test_a_run_to_take_over_goes_before_a_session(control: Control) -> None:
    client = opened(control, reuse_from_run_id="r0", reuse_from_session_id="s0")
    client.create_lora_training_client("tiny")
    body = trainer_body(control)
    assert (body.reuse_from_run_id, body.reuse_from_session_id) == ("r0", None)


def test_other_weights_cannot_be_put_on_capacity_that_is_taken_over(control: Control) -> None:
    client = opened(control, reuse_from_run_id="r0")
    with pytest.raises(UsageError, match="base_checkpoint"):
        client.create_lora_training_client("tiny", base_checkpoint="hf://a/b")
    assert control.service.sent("create_trainer") == []


@pytest.mark.parametrize("is_given", [True, False])
def test_what_is_made_belongs_to_the_team(
    control: Control, monkeypatch: pytest.MonkeyPatch, *, is_given: bool
) -> None:
    monkeypatch.setenv("LOOPS_TEAM", "red" if is_given else "blue")
    client = opened(control, **({"team": "blue"} if is_given else {}))
    client.create_lora_training_client("tiny", with_sampler=True)
    client.create_sampling_client("tiny")
    creates = [call for call in control.service.calls if call.route.name.startswith("create_")]
    assert [call.team_id for call in creates] == ["t2"] * 4
    assert len(control.service.sent("list_teams")) == 1


def test_an_unknown_team_is_refused_with_the_names_there_are(control: Control) -> None:
    client = opened(control, team="green")
    with pytest.raises(UsageError, match="'green': there is no such team; yours: 'blue', 'red'"):
        client.create_lora_training_client("tiny")
    assert [call.route.name for call in control.service.calls] == ["list_teams"]


def test_an_environment_that_says_nonsense_is_refused(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPS_AVAILABILITY_MODEL", "cheap")
    with pytest.raises(UsageError, match="dedicated, spot"):
        opened(control)


def test_without_a_service_the_environment_is_not_read(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPS_TEAM", "green")
    monkeypatch.setenv("LOOPS_AVAILABILITY_MODEL", "spot")
    plugins = plugins_with([control])
    client = ServiceClient.local("http://trainer", "http://sampler", plugins=plugins)
    client.create_lora_training_client("tiny")
    assert trainer_body(control).availability_model == "dedicated"
    assert control.service.sent("list_teams") == []
