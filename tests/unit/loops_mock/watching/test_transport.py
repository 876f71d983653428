"""What is written down of each call: batches in parts, shared polls, cancellations, repetitions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.loops_mock.watching.loop import datum

from loops_core.errors import UnreachableError
from loops_core.protocols import BodyLimits
from loops_core.types.datum import ModelInput
from loops_core.types.operation import (
    Accepted,
    CancelReply,
    ForwardBody,
    OperationKind,
    OperationStatus,
    PollBody,
    PollReply,
)
from loops_core.types.routes import CANCEL, POLL, RETRIEVE, SAMPLE, SUBMIT, BatchPart, Call
from loops_core.types.sampling import CompletionChoice, Completions, SampleBody
from loops_mock.watching.events import Called, Event, Sampled, Settled, Submitted
from loops_mock.watching.journal import Journal
from loops_mock.watching.transport import WatchedTransport

KIND = OperationKind.FORWARD_BACKWARD
Answer = Callable[[Call[Any]], object]


class ScriptedTransport:
    """A transport that answers by a script; an exception in it is raised."""

    def __init__(self, *answers: object) -> None:
        self._answers = list(answers)

    def body_limits(self, base_url: str | None) -> BodyLimits:
        return BodyLimits(max_bytes=7)

    repeats_creates = True

    def heartbeat_s(self, base_url: str | None) -> float | None:
        return 5.0

    def send(self, call: Call[Any]) -> Any:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def send_async(self, call: Call[Any]) -> Any:
        return self.send(call)

    def download(self, url: str, target: Path, *, size_bytes: int) -> None:
        target.write_bytes(bytes(size_bytes))

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""


def watched(*answers: object) -> tuple[WatchedTransport, Journal]:
    journal = Journal()
    inner = ScriptedTransport(*answers)
    return WatchedTransport(inner, journal, url="scripted:", is_lent=False), journal


def submit(tokens: list[int], *, part: BatchPart | None = None, key: str = "k") -> Call[Accepted]:
    body = ForwardBody(data=[datum(tokens)], run_id="r")
    return Call(route=SUBMIT[KIND], body=body, run_id="r", idempotency_key=key, part=part)


def of_kind(journal: Journal, kind: type[Event]) -> list[Any]:
    return [event for event in journal.events() if isinstance(event, kind)]


def test_a_batch_in_parts_is_one_operation_with_all_its_data_in_order() -> None:
    parts = [BatchPart(index, 3) for index in range(3)]
    transport, journal = watched(
        Accepted(operation_id="k", missing_parts=[0, 1]),
        Accepted(operation_id="k", missing_parts=[1]),
        Accepted(operation_id="k"),
    )
    for index in (2, 0, 1):
        transport.send(submit([index, 9], part=parts[index]))
    (operation,) = of_kind(journal, Submitted)
    whole, other = watched(Accepted(operation_id="k"))
    data = [datum([index, 9]) for index in range(3)]
    whole.send(Call(route=SUBMIT[KIND], body=ForwardBody(data=data, run_id="r")))
    assert operation.examples == of_kind(other, Submitted)[0].examples


def test_an_attempt_that_failed_is_no_operation_and_a_repetition_is_the_first_one() -> None:
    lost = UnreachableError("lost")
    transport, journal = watched(lost, Accepted(operation_id="k"), Accepted(operation_id="k"))
    with pytest.raises(UnreachableError):
        transport.send(submit([1, 2]))
    assert [event.error for event in of_kind(journal, Called)] == ["UnreachableError"]
    for _ in range(2):
        transport.send(submit([1, 2]))
    assert [event.name for event in of_kind(journal, Submitted)] == ["forward_backward #1"]


def test_a_poll_without_an_outcome_reads_nothing() -> None:
    transport, journal = watched(OperationStatus(status="pending"), OperationStatus(status="done"))
    call = Call(route=RETRIEVE, path_args={"operation_id": "k"})
    transport.send(call)
    assert not of_kind(journal, Settled)
    transport.send(call)
    assert [event.operation_id for event in of_kind(journal, Settled)] == ["k"]


async def test_a_shared_poll_reads_what_has_ended() -> None:
    ended = {"a": OperationStatus(status="done"), "b": OperationStatus(status="error", error="no")}
    transport, journal = watched(PollReply(operations=ended))
    await transport.send_async(Call(route=POLL, body=PollBody(operation_ids=["a", "b", "c"])))
    settled = {event.operation_id: event.error for event in of_kind(journal, Settled)}
    assert settled == {"a": None, "b": "RemoteOpError"}


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_cancelled_operation_is_settled_and_one_that_goes_on_is_not(cancelled: bool) -> None:
    transport, journal = watched(CancelReply(cancelled=cancelled))
    transport.send(Call(route=CANCEL, path_args={"operation_id": "k"}))
    errors = [event.error for event in of_kind(journal, Settled)]
    assert errors == (["OperationCancelledError"] if cancelled else [])


def test_a_greedy_sample_of_one_token_is_no_scoring() -> None:
    choice = CompletionChoice(token_ids=[3])
    transport, journal = watched(*[Completions(choices=[choice], policy_version=2)] * 2)
    for prompt_logprobs in (None, 0):
        body = SampleBody(
            prompt=ModelInput.from_ints([1, 2]).to_ints(),
            max_tokens=1,
            temperature=0.0,
            prompt_logprobs=prompt_logprobs,
        )
        transport.send(Call(route=SAMPLE, body=body))
    assert [event.is_scoring for event in of_kind(journal, Sampled)] == [False, True]


def test_limits_and_heartbeat_are_those_of_the_transport_within(tmp_path: Path) -> None:
    transport, _ = watched()
    assert transport.body_limits(None).max_bytes == 7
    assert transport.heartbeat_s(None) == 5.0
    assert transport.repeats_creates
    transport.download("file:", tmp_path / "x", size_bytes=3)
    assert (tmp_path / "x").stat().st_size == 3
