"""The transport over real sockets: what it learns, what it gives away, and what it gives back."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import socket
import threading
from pathlib import Path

import pytest
from tests.unit.loops_transport_http.client.stub import json, serving

from loops_core.errors import LoopsError, SampleTimeoutError, UnreachableError, UsageError
from loops_core.types import routes
from loops_core.types.deployment import Empty, SessionReply
from loops_core.types.operation import Accepted, OperationKind, OptimStepBody
from loops_core.types.routes import Call
from loops_core.types.sampling import SampleBody
from loops_core.types.training import AdamParams
from loops_transport_http.client.requests import Address
from loops_transport_http.client.transport import HttpTransport
from loops_transport_http.wire import names

SESSION: Call[SessionReply] = Call(route=routes.CREATE_SESSION)
HEALTH: Call[Empty] = Call(route=routes.HEALTH, base_url="/t")
SUBMIT: Call[Accepted] = Call(
    route=routes.SUBMIT[OperationKind.OPTIM_STEP],
    base_url="/t",
    body=OptimStepBody(adam_params=AdamParams()),
    idempotency_key="k",
)
KEY = "the-key-itself"


def opened(url: str, api_key: str | None = KEY) -> HttpTransport:
    return HttpTransport(Address(base_url=url, api_key=api_key))


def num_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_what_a_server_offers_is_learned_from_any_response_and_for_it_alone() -> None:
    offer = {names.FEATURES: "tensors/1 parts/1 body/1000"}
    with (
        serving(lambda _: json('{"detail": "no"}', 422, **offer)) as one,
        serving(lambda _: json("{}")) as two,
    ):
        transport = opened(one.url)
        assert not transport.features(one.url).tensors
        with pytest.raises(UsageError):
            transport.send(HEALTH)
        transport.send(Call(route=routes.HEALTH, base_url=two.url))
        limits = transport.body_limits("/t")
        assert (limits.max_bytes, limits.is_packed, limits.takes_parts) == (1000, True, True)
        assert not transport.body_limits(two.url).takes_parts
        transport.close()


def test_the_key_is_shown_to_the_service_and_to_no_link(tmp_path: Path) -> None:
    with serving(lambda _: json("{}")) as service, serving(lambda _: json("{}")) as files:
        transport = opened(service.url)
        transport.send(HEALTH)
        transport.download(f"{files.url}/f?signature=s", tmp_path / "f", size_bytes=2)
        transport.download(f"{service.url}/f?signature=s", tmp_path / "g", size_bytes=2)
        transport.close()
    assert service.seen[0].headers["authorization"] == f"Api-Key {KEY}"
    for seen in (files.seen[0], service.seen[1]):
        assert "authorization" not in seen.headers
        assert KEY not in str(seen.headers)


def test_no_secret_reaches_a_log_or_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(lambda _: json('{"detail": "no"}', 422)) as stub:
        transport = opened(stub.url)
        with pytest.raises(LoopsError) as refused:
            transport.send(HEALTH)
        with pytest.raises(LoopsError) as link:
            transport.download(f"{stub.url}/f?signature=hidden", tmp_path / "f", size_bytes=2)
        transport.close()
    told = f"{caplog.text} {refused.value!r} {refused.value} {link.value} {transport!r}"
    assert KEY not in told
    assert "hidden" not in told


def test_a_service_that_is_not_there_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    transport = opened(f"http://127.0.0.1:{port}")
    with pytest.raises(UnreachableError, match="optim_step"):
        transport.send(SUBMIT)
    with pytest.raises(UnreachableError, match="optim_step"):
        asyncio.run(transport.send_async(SUBMIT))
    transport.close()


def test_a_closed_transport_refuses_calls_and_may_be_closed_again() -> None:
    transport = opened("http://127.0.0.1:9")
    transport.close()
    transport.close()
    with pytest.raises(UsageError, match="closed"):
        transport.send(HEALTH)


def test_a_sample_that_is_not_answered_in_time_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        transport = opened(f"http://127.0.0.1:{silent.getsockname()[1]}")
        call = Call(route=routes.SAMPLE, base_url="/s", body=SampleBody(prompt=[1]), timeout_s=0.05)
        with pytest.raises(SampleTimeoutError) as raised:
            transport.send(call)
        with pytest.raises(SampleTimeoutError):
            asyncio.run(transport.send_async(call))
        transport.close()
    assert raised.value.timeout == 0.05


@pytest.mark.slow
def test_threads_and_event_loops_share_a_transport() -> None:
    with serving(lambda _: json("{}")) as stub:
        transport = opened(stub.url)

        async def many() -> None:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(10):
                    tasks.create_task(transport.send_async(HEALTH))

        with concurrent.futures.ThreadPoolExecutor(6) as threads:
            jobs = [threads.submit(transport.send, HEALTH) for _ in range(30)]
            jobs += [threads.submit(asyncio.run, many()) for _ in range(4)]
            for job in jobs:
                job.result()
        transport.close()
    assert len(stub.seen) == 70


@pytest.mark.slow
def test_nothing_is_left_after_close() -> None:
    async def twice(transport: HttpTransport) -> None:
        await asyncio.gather(transport.send_async(HEALTH), transport.send_async(HEALTH))

    async def to_the_end(transport: HttpTransport) -> None:
        await twice(transport)
        await transport.aclose()

    def play(url: str) -> None:
        transport = opened(url)
        transport.send(HEALTH)
        asyncio.run(twice(transport))
        asyncio.run(to_the_end(transport))

    with serving(lambda _: json("{}")) as stub:
        play(stub.url)  # opens what stays open for the rest of the process
        files, threads = num_files(), threading.active_count()
        for _ in range(10):
            play(stub.url)
        gc.collect()
        assert threading.active_count() <= threads
        for _ in range(500):  # the server's side of a connection closes a moment later
            if num_files() <= files:
                break
            threading.Event().wait(0.01)
        assert num_files() <= files
