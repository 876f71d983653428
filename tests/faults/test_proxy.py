"""The proxy does what it is told, and nothing else."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from itertools import count, repeat

import httpx
import pytest
from starlette.responses import Response
from tests.faults.plan import (
    LOST_RESPONSE,
    NEVER_ANSWERED,
    TWICE,
    Fault,
    Way,
    answered,
    cut_response,
    reset_request,
    reset_response,
)
from tests.faults.proxy import Proxy
from tests.unit.loops_transport_http.client.stub import Stub, serving


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving(lambda seen: Response(b"you said " + seen.content)) as stub:
        yield stub


@pytest.fixture
def proxy(stub: Stub) -> Iterator[Proxy]:
    with Proxy(stub.url) as proxy:
        yield proxy


def test_what_no_fault_is_for_passes_and_connections_are_kept(stub: Stub, proxy: Proxy) -> None:
    proxy.inject("GET /other", repeat(LOST_RESPONSE))
    large = bytes(300_000)
    with httpx.Client(base_url=proxy.url) as client:
        answers = [client.post("/echo", content=body).content for body in (b"a", large, b"")]
        assert proxy.num_open == 1
    assert answers == [b"you said a", b"you said " + large, b"you said "]
    assert [seen.content for seen in stub.seen] == [b"a", large, b""]
    assert [seen.line for seen in proxy.seen] == ["POST /echo"] * 3


def read_until_reset(proxy: Proxy) -> bytes:
    """Ask on a plain socket, and return what came before the reset."""
    port = int(proxy.url.rpartition(":")[2])
    got = b""
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        contextlib.suppress(ConnectionResetError),
    ):
        raw.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        while piece := raw.recv(4096):
            got += piece
        raise AssertionError("the connection was closed, not reset")
    return got


def test_every_byte_before_a_reset_of_a_response_arrives(proxy: Proxy) -> None:
    proxy.inject("/x", map(reset_response, count()))
    got = [read_until_reset(proxy) for _ in range(60)]
    assert [len(piece) for piece in got] == list(range(60))
    assert all(got[-1].startswith(piece) for piece in got)


def test_a_server_gets_nothing_of_a_request_that_is_reset(stub: Stub, proxy: Proxy) -> None:
    proxy.inject("/x", [reset_request(0), reset_request(30), answered(503, retry_after="7")])
    for _ in range(2):
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{proxy.url}/x", content=b"abc")
    refused = httpx.post(f"{proxy.url}/x", content=b"abc")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "7")
    assert [seen.request_bytes for seen in proxy.seen] == [0, 30, 0]
    assert stub.seen == []


def test_a_server_gets_all_of_a_request_whose_response_is_lost(stub: Stub, proxy: Proxy) -> None:
    proxy.inject("/x", [LOST_RESPONSE, TWICE])
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{proxy.url}/x", content=b"lost")
    assert httpx.post(f"{proxy.url}/x", content=b"twice").content == b"you said twice"
    assert [seen.content for seen in stub.seen] == [b"lost", b"twice", b"twice"]


def test_a_response_that_is_cut_ends_as_if_all_had_been_said(proxy: Proxy) -> None:
    whole = httpx.post(f"{proxy.url}/x", content=b"abc")
    proxy.inject("/x", [cut_response(proxy.seen[0].response_bytes - 2)])
    with pytest.raises(httpx.RemoteProtocolError, match="10 bytes, expected 12"):
        httpx.post(f"{proxy.url}/x", content=b"abc")
    assert whole.content == b"you said abc"


def test_bytes_trickle_in_both_directions(stub: Stub, proxy: Proxy) -> None:
    slow = Way(pause_s=1e-6)
    proxy.inject("/x", [Fault(request=slow, response=slow)])
    assert httpx.post(f"{proxy.url}/x", content=b"abc").content == b"you said abc"
    assert stub.seen[0].content == b"abc"


def test_what_is_held_back_goes_on_when_it_is_released(stub: Stub, proxy: Proxy) -> None:
    proxy.inject("/x", [NEVER_ANSWERED])
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{proxy.url}/x", content=b"abc", timeout=0.05)
    proxy.inject("/y", [Fault(request=Way(stop_at=20, then="hold"))])
    with httpx.Client() as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"{proxy.url}/y", content=b"abc", timeout=0.05)
        assert [seen.content for seen in stub.seen] == [b"abc"]
        proxy.release()
        proxy.inject("/z", [NEVER_ANSWERED])
        assert client.post(f"{proxy.url}/z", content=b"z").content == b"you said z"
