"""From a URL to a transport, or a refusal that names what is wrong."""

from __future__ import annotations

import concurrent.futures

import pytest
from tests.unit.loops_transport_http.client.stub import json, serving

from loops_core.errors import UnsupportedError, UsageError
from loops_core.types import routes
from loops_core.types.routes import Call
from loops_transport_http.client.opening import open_transport


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="api_key") as raised:
        open_transport("http://user:hunter2@h:1", api_key=None)
    assert "hunter2" not in str(raised.value)


def test_a_log_of_requests_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPS_REQUEST_LOG", "/tmp/requests")
    with pytest.raises(UnsupportedError, match="LOOPS_REQUEST_LOG"):
        open_transport("http://h", api_key=None)


@pytest.mark.parametrize("text", ["0", "-1", "many"])
def test_a_number_of_connections_that_is_none_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BT_LOOPS_MAX_CONNECTIONS", text)
    with pytest.raises(UsageError, match="BT_LOOPS_MAX_CONNECTIONS"):
        open_transport("http://h", api_key=None)


def test_one_connection_carries_the_calls_of_many_threads_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BT_LOOPS_MAX_CONNECTIONS", "1")
    with serving(lambda _: json("{}")) as stub:
        transport = open_transport(stub.url, api_key=None)
        call = Call(route=routes.HEALTH, base_url="/t")
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            list(threads.map(transport.send, [call] * 12))
        transport.close()
    # One at a time: a connection may be made anew in between, but four threads never have one each.
    assert len({seen.peer for seen in stub.seen}) < 4
    assert len(stub.seen) == 12


def test_http2_may_be_asked_of_a_server_that_has_it_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("h2")
    monkeypatch.setenv("BT_LOOPS_HTTP2", "1")
    with serving(lambda _: json("{}")) as stub:
        transport = open_transport(stub.url, api_key=None)
        transport.send(Call(route=routes.HEALTH, base_url="/t"))
        transport.close()
    assert [seen.path for seen in stub.seen] == ["/t/health"]
