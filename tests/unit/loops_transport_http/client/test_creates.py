"""Where things are made, and which servers are trusted with a create that is repeated."""

from __future__ import annotations

import json

import pytest
from tests.unit.loops_transport_http.client.stock import open_pair

from loops_core.types import routes
from loops_core.types.deployment import CreateTrainerBody
from loops_core.types.routes import Call
from loops_transport_http.client.requests import Address, to_request
from loops_transport_http.client.transport import HttpTransport
from loops_transport_http.wire.features import Features


@pytest.mark.slow  # starts a server
def test_creates_are_repeated_only_against_a_server_that_has_advertised_features() -> None:
    with open_pair() as pair:
        transport = HttpTransport(Address(base_url=pair.url))
        call = Call(route=routes.HEALTH, base_url="/trainer")
        known = [transport.repeats_creates]
        for pair.features in (None, "new/1", "poll/1"):
            transport.send(call)
            known.append(transport.repeats_creates)
        transport.close()
    assert known == [False, False, False, True]


@pytest.mark.parametrize(
    ("team_id", "options", "path"),
    [
        (None, {}, "/v1/loops/trainers"),
        ("a/b", {}, "/v1/teams/a%2Fb/loops/trainers"),
        (None, {"scope": "s"}, "/v1/loops/debug/trainers"),
        (None, {"debug_version": "7"}, "/v1/loops/debug/trainers"),
        ("t", {"debug_version": "7"}, "/v1/teams/t/loops/debug/trainers"),
    ],
)
def test_a_trainer_is_made_where_the_protocol_says(
    team_id: str | None, options: dict[str, str], path: str
) -> None:
    body = CreateTrainerBody(session_id="s1", base_model="m", **options)  # type: ignore[arg-type]
    call = Call(route=routes.CREATE_TRAINER, body=body, team_id=team_id)
    request = to_request(call, Address(base_url="http://h"), Features())
    assert request.url == f"http://h{path}"
    sent = json.loads(request.content)
    assert {name: sent[name] for name in options} == options
    assert {"scope", "debug_version", "base_checkpoint"} & sent.keys() == options.keys()
