"""Clients that trickle, stall or do not read: others go on, and what they cost is bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final

import pytest
from tests.load.gauges import IS_READABLE, NEEDS_PROC, Gauge
from tests.load.raw import IS_LONG, Caller, Plug
from tests.serving import Server

from loops_core import AdamParams, ModelInput, SamplingParams, ServiceClient, TrainingClient
from loops_transport_http.bench.workload import TINY, BatchSize, make_body, make_data, make_json

pytestmark = [
    pytest.mark.slow,  # starts a process
    pytest.mark.skipif(not IS_READABLE, reason=NEEDS_PROC),
]

MB: Final = 1_000_000
BODY_BYTES: Final = 20 * MB
READING_MIB: Final = 64
"""Room for three such bodies, and not for a fourth."""

NUM_ROOM: Final = 3
NUM_STALLED: Final = 16
SLACK_MIB: Final = 48
"""A body's pieces are joined once it is there; and each connection has buffers."""

ADAM: Final = AdamParams(learning_rate=0.01)
PROMPT: Final = ModelInput.from_ints([5, 6])
LARGE: Final = BatchSize(num_data=8, length=2048)
"""Its body is too large to be read without room, and not large."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve with room for few bodies, and with little patience for those who wait for room."""
    options = ["--max-reading-mib", str(READING_MIB), "--room-wait-s", "0.2"]
    with Server(tmp_path_factory.mktemp("slow") / "data", options=options) as serving:
        yield serving


@pytest.fixture
def service(server: Server) -> Iterator[ServiceClient]:
    """Return a client of the server."""
    with ServiceClient(base_url=server.url, api_key=server.api_key) as client:
        yield client


@pytest.fixture
def trainer(service: ServiceClient) -> TrainingClient:
    """Return a trainer with published weights."""
    return service.create_lora_training_client("mock-tiny", rank=4)


@pytest.fixture
def slow(server: Server, service: ServiceClient) -> Iterator[list[Plug]]:
    """Return clients that have announced a large body each, and have sent none of it."""
    theirs = service.create_lora_training_client("mock-tiny", rank=4)
    with ExitStack() as stack:
        plugs = [stack.enter_context(Plug.open(server)) for _ in range(NUM_ROOM)]
        for plug in plugs:
            begin_large(plug, server, theirs)
        yield plugs


def begin_large(plug: Plug, server: Server, trainer: TrainingClient) -> None:
    """Announce a large body."""
    path = f"/trainers/{trainer.run_id}/forward_backward"
    plug.begin(server, "POST", path, announced=BODY_BYTES)


def test_bodies_that_trickle_delay_nobody(slow: list[Plug], trainer: TrainingClient) -> None:
    sampler = trainer.save_weights_and_get_sampling_client("first").result()
    for number in range(20):
        for plug in slow:
            plug.sock.sendall(b" " * 1024)
        assert trainer.forward_backward(make_data(TINY)).result().loss > 0
        assert (trainer.optim_step(ADAM).result().metrics or {})["step"] == number + 1
        reply = sampler.sample(PROMPT, sampling_params=SamplingParams(max_tokens=2))
        assert len(reply.sequences[0].tokens) == 2


def test_a_large_body_without_room_is_told_when_to_come_again(
    server: Server, slow: list[Plug], trainer: TrainingClient
) -> None:
    body = make_json(make_body(make_data(LARGE)))
    with Caller(server) as caller, Plug.open(server) as fourth:
        begin_large(fourth, server, trainer)
        status, response, content = fourth.answer()
        assert (status, b"BusyError" in content) == (408, True)
        assert float(response.headers["Retry-After"]) > 0
        path = f"/trainers/{trainer.run_id}/forward_backward"
        assert caller.call("POST", path, body)[0] == 202  # there is room for a smaller one
        slow[0].vanish()
        caller.health()
        with Plug.open(server) as fifth:
            begin_large(fifth, server, trainer)
            fifth.sock.sendall(b"{" + b" " * (BODY_BYTES - 1))
            assert fifth.answer()[0] == 422  # it was read


def test_our_client_comes_again_until_its_body_is_read(
    server: Server, slow: list[Plug], trainer: TrainingClient
) -> None:
    with Plug.open(server) as rest, Caller(server) as caller:
        path = f"/trainers/{trainer.run_id}/forward_backward"
        rest.begin(server, "POST", path, announced=READING_MIB * 2**20 - NUM_ROOM * BODY_BYTES)
        caller.health()
        losses: list[float] = []
        more = threading.Thread(
            target=lambda: losses.append(trainer.forward(make_data(LARGE)).result().loss)
        )
        more.start()
        body = make_json(make_body(make_data(LARGE)))
        assert {caller.call("POST", path, body)[0] for _ in range(3)} == {408}
        assert not losses
    for plug in slow:
        plug.vanish()
    more.join()
    assert len(losses) == 1


def test_bodies_that_stall_before_their_end_take_bounded_memory(
    server: Server,
    trainer: TrainingClient,
    record_property: Callable[[str, object], None],
) -> None:
    gauge = Gauge(server.pid)
    rss = gauge.rss_mib()
    gauge.reset_peak()
    piece = b" " * 2**18
    with Caller(server) as caller, ExitStack() as stack:
        plugs = [stack.enter_context(Plug.open(server)) for _ in range(NUM_STALLED)]
        left = dict.fromkeys(range(NUM_STALLED), BODY_BYTES - MB)
        for plug in plugs:
            begin_large(plug, server, trainer)
        for _ in range(4 * BODY_BYTES // len(piece)):
            for number, plug in enumerate(plugs):
                left[number] -= plug.push(piece[: left[number]]) if left[number] > 0 else 0
            caller.health()
        sent = NUM_STALLED * (BODY_BYTES - MB) - sum(left.values())
    growth = gauge.peak_rss_mib() - rss
    record_property("memory", f"{growth:.0f} MiB more for {sent / 2**20:.0f} MiB that were sent")
    assert growth <= READING_MIB + SLACK_MIB
    assert trainer.forward_backward(make_data(LARGE)).result().loss > 0


def test_a_client_that_never_reads_delays_nobody(
    server: Server,
    trainer: TrainingClient,
    record_property: Callable[[str, object], None],
) -> None:
    gauge = Gauge(server.pid)
    with Caller(server) as caller, Plug.open(server, receive_bytes=4096) as deaf:
        caller.call("GET", "/openapi.json")
        rss = gauge.rss_mib()
        request = b"GET /openapi.json HTTP/1.1\r\nHost: tests\r\n\r\n"
        sent = 0
        for _ in range(20):
            sent += deaf.push(request * 200) // len(request)
            assert trainer.forward_backward(make_data(TINY)).result().loss > 0
            caller.health()
        growth = gauge.rss_mib() - rss
        record_property("memory", f"{growth:.0f} MiB more for {sent} answers that nobody reads")
        assert growth <= SLACK_MIB


@pytest.mark.skipif(not IS_LONG, reason="waits for the time limits: LOOPS_LONG_LOAD=1")
def test_a_body_that_never_ends_is_refused_and_its_connection_closed(
    server: Server, slow: list[Plug]
) -> None:
    statuses: list[int] = []
    with Caller(server) as caller:
        for plug in slow:
            plug.sock.sendall(b" " * 1024)
            status, response, _ = plug.answer()  # after body_timeout_s
            statuses.append(status)
            assert response.headers["Connection"] == "close"
        caller.health()
    assert statuses == [408] * NUM_ROOM
