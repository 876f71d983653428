"""One request and its response: whole within its time, whatever the peer does."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import httpx
import pytest
from tests.unit.loops_transport_http.client.stub import json, serving

from loops_transport_http.client.exchange import exchange, exchange_async
from loops_transport_http.client.pools import AsyncPools, SyncPools, proxy_of
from loops_transport_http.client.requests import WireRequest

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


@contextmanager
def peer(behave: Callable[[socket.socket, threading.Event], None]) -> Generator[str]:
    """Serve one connection as the function does, which ends when the event is set."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def play() -> None:
            connection, _ = listening.accept()
            with connection:
                try:
                    behave(connection, over)
                except OSError:
                    return  # the client has gone

        thread = threading.Thread(target=play)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/x"
        finally:
            over.set()
            thread.join()


def trickles_headers(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not over.wait(0.02):
        connection.sendall(b"x")


def trickles_the_body(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(HEAD)
    while not over.wait(0.02):
        connection.sendall(b"x")


def reads_slowly(connection: socket.socket, over: threading.Event) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    while not over.wait(0.02):
        connection.recv(4096)


def says_nothing(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(65536)
    over.wait()


PEERS = pytest.mark.parametrize(
    "behave", [trickles_headers, trickles_the_body, reads_slowly, says_nothing]
)
LARGE = b"x" * 16_000_000


def send(url: str, content: bytes, timeout_s: float) -> httpx.Response:
    pools = SyncPools(http2=False)
    try:
        return exchange(pools, WireRequest("POST", url, {}, content), timeout_s)
    finally:
        pools.close()


async def send_async(url: str, content: bytes, timeout_s: float) -> httpx.Response:
    pools = AsyncPools(http2=False)
    try:
        return await exchange_async(pools, WireRequest("POST", url, {}, content), timeout_s)
    finally:
        await pools.aclose()


@pytest.mark.slow
@PEERS
def test_no_peer_holds_a_thread_beyond_its_time(
    behave: Callable[[socket.socket, threading.Event], None],
) -> None:
    content = LARGE if behave is reads_slowly else b"{}"
    started = time.monotonic()
    with peer(behave) as url, pytest.raises(httpx.TimeoutException):
        send(url, content, 0.3)
    assert time.monotonic() - started < 3


@pytest.mark.slow
@PEERS
def test_no_peer_holds_a_task_beyond_its_time(
    behave: Callable[[socket.socket, threading.Event], None],
) -> None:
    content = LARGE if behave is reads_slowly else b"{}"
    started = time.monotonic()
    with peer(behave) as url, pytest.raises(httpx.TimeoutException):
        asyncio.run(send_async(url, content, 0.3))
    assert time.monotonic() - started < 3


def cut_short(connection: socket.socket, _: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(HEAD + b"half")


def test_a_body_that_is_cut_short_is_a_failure() -> None:
    with peer(cut_short) as url, pytest.raises(httpx.RemoteProtocolError):
        send(url, b"{}", 10)
    with peer(cut_short) as url, pytest.raises(httpx.RemoteProtocolError):
        asyncio.run(send_async(url, b"{}", 10))


def test_an_answer_to_a_large_body_that_was_not_read_arrives() -> None:
    def refuses(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
        connection.settimeout(0.01)
        while not over.is_set():
            try:
                if not connection.recv(1 << 20):
                    return
            except TimeoutError:
                continue

    with peer(refuses) as url:
        assert send(url, LARGE, 20).status_code == 413


def test_head_and_body_of_a_small_request_go_in_one_piece() -> None:
    arrived: list[bytes] = []

    def answers(connection: socket.socket, _: threading.Event) -> None:
        arrived.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with peer(answers) as url:
        send(url, b'{"a": 1}', 10)
    assert arrived[0].startswith(b"POST /x ")
    assert arrived[0].endswith(b'\r\n\r\n{"a": 1}')


def test_a_refusal_shows_its_request_without_what_is_secret() -> None:
    with serving(lambda _: json("{}", 422)) as stub:
        headers = {"Authorization": "Api-Key secret", "X-Run-Id": "r"}
        pools = SyncPools(http2=False)
        response = exchange(pools, WireRequest("GET", f"{stub.url}/a?b=c", headers, b""), 10)
        pools.close()
    assert stub.seen[0].headers["authorization"] == "Api-Key secret"
    assert "content-length" not in stub.seen[0].headers
    assert "authorization" not in response.request.headers
    assert response.request.headers["X-Run-Id"] == "r"
    assert response.request.url.path == "/a"


def test_the_proxies_of_the_environment_are_used_and_excepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1,near.test")
    assert proxy_of("http://far.test") == "http://proxy:3128"
    assert proxy_of("http://near.test:8000") is None
    assert proxy_of("http://127.0.0.1:8000") is None
    assert proxy_of("https://far.test") is None


@pytest.mark.slow
def test_a_proxy_carries_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda _: json('{"by": "proxy"}')) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        assert send("http://far.test/x", b"{}", 10).json() == {"by": "proxy"}
        assert asyncio.run(send_async("http://far.test/x", b"{}", 10)).json() == {"by": "proxy"}
