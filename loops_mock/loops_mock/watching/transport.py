"""A transport that writes down what goes through it."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import TypeVar, final

from loops_core.errors import LoopsError
from loops_core.protocols import BodyLimits, Transport
from loops_core.types.base import WireModel
from loops_core.types.deployment import CreateSamplerBody, RunReply, SamplerReply
from loops_core.types.operation import (
    Accepted,
    CancelReply,
    ForwardBody,
    OperationBody,
    OperationKind,
    OperationStatus,
    PollReply,
)
from loops_core.types.routes import Call
from loops_core.types.sampling import Completions, SampleBody
from loops_mock.watching import reading
from loops_mock.watching.events import (
    Called,
    Example,
    Sampled,
    ServiceClosed,
    ServiceOpened,
    Settled,
    Submitted,
)
from loops_mock.watching.journal import Journal
from loops_mock.watching.places import Place, place_of_caller

ReplyT = TypeVar("ReplyT", bound=WireModel)


@final
class WatchedTransport:
    """Carries calls over another transport and writes them into a journal; changes nothing."""

    def __init__(self, inner: Transport, journal: Journal, *, url: str, is_lent: bool) -> None:
        """Watch what goes over `inner` from now on."""
        self._inner = inner
        self._journal = journal
        self._service = journal.next_service()
        self._lock = threading.Lock()
        self._parts: dict[str, dict[int, tuple[Example, ...]]] = {}
        self._samplers: dict[str, str | None] = {}
        self._closed = False
        journal.note(
            lambda number, place: ServiceOpened(
                number=number, service=self._service, place=place, url=url, is_lent=is_lent
            )
        )

    def body_limits(self, base_url: str | None) -> BodyLimits:
        """Return the other transport's limits."""
        return self._inner.body_limits(base_url)

    @property
    def repeats_creates(self) -> bool:
        """Return what the other transport says."""
        return self._inner.repeats_creates

    def heartbeat_s(self, base_url: str | None) -> float | None:
        """Return what the other transport says."""
        return self._inner.heartbeat_s(base_url)

    def send(self, call: Call[ReplyT]) -> ReplyT:
        """Return the other transport's reply, once it is written down."""
        number, place = self._journal.next_number(), place_of_caller()
        try:
            reply = self._inner.send(call)
        except LoopsError as error:
            self._failed(call, error, number, place)
            raise
        self._answered(call, reply, number, place)
        return reply

    async def send_async(self, call: Call[ReplyT]) -> ReplyT:
        """Return the other transport's reply, once it is written down."""
        number, place = self._journal.next_number(), place_of_caller()
        try:
            reply = await self._inner.send_async(call)
        except LoopsError as error:
            self._failed(call, error, number, place)
            raise
        self._answered(call, reply, number, place)
        return reply

    def download(self, url: str, target: Path, *, size_bytes: int) -> None:
        """Do what the other transport does."""
        self._inner.download(url, target, size_bytes=size_bytes)

    def close(self) -> None:
        """Close the other transport."""
        self._note_close()
        self._inner.close()

    async def aclose(self) -> None:
        """Close the other transport without blocking the event loop."""
        self._note_close()
        await self._inner.aclose()

    def _note_close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._journal.note(partial(_closed, self._service))

    def _failed(
        self, call: Call[ReplyT], error: LoopsError, number: int, place: Place | None
    ) -> None:
        event = Called(
            number=number,
            service=self._service,
            place=place,
            name=call.route.name,
            error=type(error).__name__,
        )
        self._journal.write(event)

    def _answered(
        self, call: Call[ReplyT], reply: WireModel, number: int, place: Place | None
    ) -> None:
        match call.body, reply:
            case OperationBody() as body, Accepted():
                self._accepted(call, body, reply, number, place)
            case _, OperationStatus():
                self._settled(call.path_args.get("operation_id", ""), reply, number, place)
            case _, PollReply():
                for operation_id, status in reply.operations.items():
                    self._settled(operation_id, status, number, place)
            case _, CancelReply(cancelled=True):
                status = OperationStatus(status="error", error_class="OperationCancelledError")
                self._settled(call.path_args.get("operation_id", ""), status, number, place)
            case SampleBody() as body, Completions():
                self._sampled(call, body, reply, number, place)
            case _:
                self._other(call, reply, number, place)

    def _other(
        self, call: Call[ReplyT], reply: WireModel, number: int, place: Place | None
    ) -> None:
        if isinstance(reply, RunReply):
            self._journal.bind(reply.run.id, self._service, place)
        if isinstance(reply, SamplerReply) and isinstance(call.body, CreateSamplerBody):
            run_id = call.body.run_id or reading.run_of_path(call.body.model_path)
            self._samplers[reply.sampler.id] = run_id
        self._journal.write(
            Called(number=number, service=self._service, place=place, name=call.route.name)
        )

    def _accepted(
        self,
        call: Call[ReplyT],
        body: OperationBody,
        reply: Accepted,
        number: int,
        place: Place | None,
    ) -> None:
        examples = self._collect(call, body)
        if reply.missing_parts or not self._journal.is_new(self._service, reply.operation_id):
            return
        kind, run_id = OperationKind(call.route.name), body.run_id
        self._journal.write(
            Submitted(
                number=number,
                service=self._service,
                place=place,
                kind=kind,
                ordinal=self._journal.next_ordinal(run_id or "", kind.value),
                operation_id=reply.operation_id,
                run_id=run_id,
                loss=reading.loss_of(body) if isinstance(body, ForwardBody) else "",
                examples=examples,
            )
        )

    def _collect(self, call: Call[ReplyT], body: OperationBody) -> tuple[Example, ...]:
        """Return the examples of a batch, those of its parts that have come before included."""
        if not isinstance(body, ForwardBody):
            return ()
        examples = reading.examples_of(body)
        if call.part is None or call.idempotency_key is None:
            return examples
        with self._lock:
            parts = self._parts.setdefault(call.idempotency_key, {})
            parts[call.part.index] = examples
            return tuple(each for index in sorted(parts) for each in parts[index])

    def _settled(
        self, operation_id: str, status: OperationStatus, number: int, place: Place | None
    ) -> None:
        if status.status == "pending":
            return
        version, path = reading.saved_in(status)
        failed = status.error_class or "RemoteOpError" if status.status == "error" else None
        self._journal.write(
            Settled(
                number=number,
                service=self._service,
                place=place,
                operation_id=operation_id,
                error=failed,
                version=version,
                path=path,
            )
        )

    def _sampled(
        self,
        call: Call[ReplyT],
        body: SampleBody,
        reply: Completions,
        number: int,
        place: Place | None,
    ) -> None:
        pin = call.pin
        named = pin.run_id or reading.run_of_path(pin.checkpoint_path)
        run_id = named or self._samplers.get(pin.sampler_id or "")
        sequences, logprobs = reading.sequences_of(reply, body)
        self._journal.write(
            Sampled(
                number=number,
                service=self._service,
                place=place,
                ordinal=self._journal.next_ordinal(run_id or "", "sample"),
                run_id=run_id,
                version=reply.policy_version,
                is_pinned=pin.run_id is None or pin.checkpoint_path is not None,
                is_scoring=reading.is_scoring(body),
                sequences=sequences,
                logprobs=logprobs,
            )
        )


def _closed(service: int, number: int, place: Place | None) -> ServiceClosed:
    return ServiceClosed(number=number, service=service, place=place)
