"""Which servers are trusted with a create that is repeated."""

from __future__ import annotations

import pytest
from tests.unit.loops_transport_http.client.stock import open_pair

from loops_core.types import routes
from loops_core.types.routes import Call
from loops_transport_http.client.requests import Address
from loops_transport_http.client.transport import HttpTransport

pytestmark = pytest.mark.slow  # starts a server


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
