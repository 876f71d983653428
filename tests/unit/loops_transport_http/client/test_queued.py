"""Samples that shared capacity queues: polled to their end, within their time."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.loops_transport_http.client.stub import Stub, json, serving

from loops_core.errors import RemoteOpError, SampleTimeoutError
from loops_core.types import routes
from loops_core.types.routes import Call, SamplerPin
from loops_core.types.sampling import Completions, SampleBody
from loops_transport_http.client.requests import Address
from loops_transport_http.client.transport import HttpTransport

DONE = '{"status": "done", "result": {"choices": [{"token_ids": [7]}]}}'
QUEUED = '{"operation_id": "o 1"}'


def sample(timeout_s: float = 30.0) -> Call[Completions]:
    pin = SamplerPin(run_id="r1", min_policy_version=2)
    body = SampleBody(prompt=[1])
    return Call(route=routes.SAMPLE, base_url="/s", body=body, pin=pin, timeout_s=timeout_s)


def ask(stub: Stub, call: Call[Completions]) -> Completions:
    transport = HttpTransport(Address(base_url=stub.url))
    try:
        return transport.send(call)
    finally:
        transport.close()


def test_a_queued_sample_is_polled_until_it_is_done() -> None:
    with serving(lambda _: json(DONE)) as stub:
        stub.script = [json(QUEUED, 202), json("", 408), json(DONE, 502)]
        answer = ask(stub, sample())
    assert answer.choices[0].token_ids == [7]
    assert [seen.path for seen in stub.seen] == ["/s/sample", *["/s/operations/o%201"] * 3]
    assert stub.seen[1].headers["x-run-id"] == "r1"
    assert stub.seen[1].headers["x-min-policy-version"] == "2"


def test_a_queued_sample_is_awaited_on_an_event_loop_too() -> None:
    async def play(stub: Stub) -> Completions:
        transport = HttpTransport(Address(base_url=stub.url))
        try:
            return await transport.send_async(sample())
        finally:
            await transport.aclose()

    with serving(lambda _: json(DONE)) as stub:
        stub.script = [json(QUEUED, 202)]
        answer = asyncio.run(play(stub))
    assert answer.choices[0].token_ids == [7]


def test_a_queued_sample_that_failed_is_an_error_of_the_operation() -> None:
    failed = '{"status": "error", "error": "no room", "error_class": "DispatcherError"}'
    with serving(lambda _: json(failed)) as stub:
        stub.script = [json(QUEUED, 202)]
        with pytest.raises(RemoteOpError, match="no room") as raised:
            ask(stub, sample())
    assert raised.value.error_class == "DispatcherError"


@pytest.mark.slow
def test_a_queued_sample_that_takes_too_long_is_cancelled() -> None:
    with serving(lambda seen: json("", 408 if seen.method == "GET" else 409)) as stub:
        stub.script = [json(QUEUED, 202)]
        with pytest.raises(SampleTimeoutError, match="o 1") as raised:
            ask(stub, sample(timeout_s=0.3))
    assert raised.value.timeout == 0.3
    assert stub.seen[-1].path == "/s/operations/o%201/cancel"
    assert len(stub.seen) < 20, "a service that answers at once is not hit in a loop"
