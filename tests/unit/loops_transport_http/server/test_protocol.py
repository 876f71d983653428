"""A client that sends too much or too slowly, or does not read, is refused or dropped."""

from __future__ import annotations

import json
import socket
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from tests.unit.loops_transport_http.server.conftest import KEYS, Serve

from loops_transport_http.server.settings import ServerSettings

pytestmark = pytest.mark.slow  # a server on a port

QUICK = ServerSettings(
    header_timeout_s=0.2,
    body_timeout_s=0.2,
    write_timeout_s=0.2,
    room_wait_s=0.2,
    max_header_bytes=4096,
    max_body_bytes=200_000,
    max_reading_bytes=150_000,
    least_bytes_per_s=10_000_000,
)


@contextmanager
def connected(address: tuple[str, int]) -> Generator[socket.socket]:
    with socket.create_connection(address, timeout=20) as connection:
        yield connection


def read_all(connection: socket.socket) -> bytes:
    """Return what the server sends until it closes."""
    parts: list[bytes] = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of one answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        assert part, f"the connection ended after {data!r}"
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65536)
    return int(first.split()[1]), headers, body


def send_for_ever(connection: socket.socket, data: bytes) -> None:
    while True:
        connection.sendall(data)


def head(path: str, *, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Api-Key {KEYS['alice']}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


@pytest.mark.parametrize("is_complete", [True, False])
def test_headers_over_the_bound_are_431(serve: Serve, is_complete: bool) -> None:
    with connected(serve(QUICK)) as connection:
        end = b"\r\n\r\n" if is_complete else b""
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 5000 + end)
        status, headers, body = read_answer(connection)
        assert status == 431
        assert json.loads(body)["field"] == "headers"
        assert headers["x-baseten-error-source"] == "06"
        assert "body/200000" in headers["x-loops-features"]
        assert connection.recv(1) == b""


def test_headers_that_do_not_end_in_time_are_408(serve: Serve) -> None:
    with connected(serve(QUICK)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        status, headers, body = read_answer(connection)
        assert status == 408
        assert "x-baseten-error-source" not in headers  # it may be tried again
        assert json.loads(body)["code"] == "BusyError"
        assert connection.recv(1) == b""


def test_a_connection_that_says_nothing_is_closed(serve: Serve) -> None:
    with connected(serve(QUICK)) as connection:
        assert read_all(connection) == b""


def test_what_is_no_http_is_400_in_the_one_shape(serve: Serve) -> None:
    with connected(serve(QUICK)) as connection:
        connection.sendall(b"hello\r\n\r\n")
        status, headers, body = read_answer(connection)
        assert status == 400
        assert json.loads(body)["code"] == "UsageError"
        assert headers["x-baseten-error-source"] == "06"


def test_a_body_that_stops_is_408_and_the_connection_ends(serve: Serve) -> None:
    with connected(serve(QUICK)) as connection:
        connection.sendall(head("/trainers/local/forward", length=1000) + b'{"data": [')
        status, _, body = read_answer(connection)
        assert status == 408
        assert "10 bytes" in json.loads(body)["message"]
        assert connection.recv(1) == b""


def test_a_body_over_the_bound_is_413_before_it_is_read(serve: Serve) -> None:
    with connected(serve(QUICK)) as connection:
        connection.sendall(head("/trainers/local/forward", length=200_001))
        status, headers, body = read_answer(connection)
        assert (status, json.loads(body)["field"]) == (413, "body")
        assert headers["x-baseten-error-source"] == "06"
        assert connection.recv(1) == b""  # the rest never came


def test_bodies_over_the_memory_bound_wait_and_are_then_asked_to_come_back(serve: Serve) -> None:
    address = serve(
        ServerSettings(max_reading_bytes=150_000, room_wait_s=0.1, max_body_bytes=200_000)
    )
    with connected(address) as first, connected(address) as second:
        first.sendall(head("/trainers/local/forward", length=100_000) + b"{")
        second.sendall(head("/v1/loops/trainers", length=2) + b"{}")
        assert read_answer(second)[0] == 422  # small bodies need no room
        second.sendall(head("/trainers/local/forward", length=100_000) + b"{")
        status, headers, body = read_answer(second)
        assert (status, json.loads(body)["code"]) == (408, "BusyError")
        assert headers["retry-after"] == "2"


def test_who_does_not_read_the_answer_is_dropped(serve: Serve) -> None:
    address = serve(QUICK)
    with connected(address) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_for_ever(connection, request)  # the document is long, and nobody reads it
    with connected(address) as other:
        other.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(other)[0] == 200
