"""Faults of the HTTP server: statuses, headers, bodies, parts of batches, polls."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from tests.mutants.editing import Edit, Value
from tests.mutants.mutant import Mutant

from loops_core.errors import BusyError, NotFoundError, UnknownRequestError, UsageError

_STATUS_OF: Final = "loops_transport_http.wire.errors:STATUS_OF"
_FRONT: Final = "loops_transport_http.server.app:Front"
_WRITER: Final = "loops_transport_http.server.replies:ReplyWriter"
_CALLS: Final = "loops_transport_http.server.calls"

WIRE: Final = (
    Mutant(
        "wire.validation-400",
        "a malformed request looks like a hang: it is answered 400, which clients retry",
        "server",
        (
            Value(_STATUS_OF, lambda known: {**known, UsageError: HTTPStatus.BAD_REQUEST}),
            Value("loops_transport_http.wire.names:FINAL_ERROR", lambda _: "00"),
        ),
    ),
    Mutant(
        "wire.validation-500",
        "a malformed request is answered 500, as if the server were at fault",
        "server",
        (Value(_STATUS_OF, lambda known: {**known, UsageError: 500}),),
    ),
    Mutant(
        "wire.unknown-operation-410",
        "a poll of an unknown operation is answered 410, which clients do not know",
        "server",
        (Value(_STATUS_OF, lambda known: {**known, UnknownRequestError: HTTPStatus.GONE}),),
    ),
    Mutant(
        "wire.missing-200",
        "what does not exist is answered 200",
        "server",
        (Value(_STATUS_OF, lambda known: {**known, NotFoundError: 200}),),
    ),
    Mutant(
        "wire.conflict-500",
        "a used key is answered 500, and the client goes on retrying",
        "server",
        (
            Edit(
                "loops_transport_http.wire.errors:status_of",
                "int(STATUS_OF[cls])",
                "int(STATUS_OF[cls]) if STATUS_OF[cls] != 409 else 500",
            ),
        ),
    ),
    Mutant(
        "wire.endless-500",
        "every poll is answered 500 for ever",
        "server",
        (
            Edit(
                f"{_FRONT}._reply",
                "reply = await self._service.handle_async(call, owner=owner)",
                "if call.route.name in _POLLS:\n"
                "    raise LoopsError('the service failed')\n"
                "reply = await self._service.handle_async(call, owner=owner)",
            ),
        ),
    ),
    Mutant(
        "wire.submits-502",
        "every submit is answered 502, though it was accepted",
        "server",
        (
            Edit(
                f"{_FRONT}._reply",
                "shown = with_addresses(reply, lambda: self._root_url(request), self._links.sign)",
                "if call.route.name == 'optim_step':\n"
                "    raise UnreachableError('bad gateway')\n"
                "shown = with_addresses(reply, lambda: self._root_url(request), self._links.sign)",
            ),
        ),
    ),
    Mutant(
        "wire.poll-not-held",
        "polls come back at once, and clients ask a thousand times a second",
        "server",
        (
            Edit(f"{_CALLS}:_hold_s", "min(seconds, names.LONGEST_HOLD_S)", "0.0 * seconds"),
            Edit(f"{_CALLS}:_hold_s", "return names.LONGEST_HOLD_S", "return 0.0"),
        ),
    ),
    Mutant(
        "wire.pending-200",
        "an unfinished poll is answered 200, which published clients cannot read",
        "server",
        (
            Edit(
                f"{_WRITER}.write",
                "isinstance(reply, OperationStatus) and reply.status == 'pending'",
                "False",
            ),
        ),
    ),
    Mutant(
        "wire.accepted-200",
        "a submit is answered 200",
        "server",
        (
            Edit(
                f"{_WRITER}.write",
                "HTTPStatus.ACCEPTED if is_submit else HTTPStatus.OK",
                "HTTPStatus.OK",
            ),
        ),
    ),
    Mutant(
        "wire.literal-nan",
        "strict JSON readers fail: ignored positions are written as NaN",
        "server",
        (
            Edit(
                "loops_core.types.arrays:json_list",
                "[value if math.isfinite(value) else None for value in values]",
                "[value if math.isfinite(value) else 0.0 for value in values]",
            ),
        ),
    ),
    Mutant(
        "wire.error-without-message",
        "a refusal does not say what is wrong",
        "server",
        (
            Edit(
                "loops_transport_http.wire.errors:write_error",
                "body.message",
                "''",
            ),
        ),
    ),
    Mutant(
        "wire.error-without-field",
        "a refusal does not name the field that is wrong",
        "server",
        (
            Edit(
                "loops_transport_http.wire.errors:write_error",
                "error.field",
                "None",
            ),
        ),
    ),
    Mutant(
        "wire.any-key",
        "any key opens the service",
        "server",
        (
            Edit(
                "loops_transport_http.server.keys:KeyRing.owner_of",
                "owner is None or not key",
                "not key",
            ),
            Edit(
                "loops_transport_http.server.keys:KeyRing.owner_of",
                "return owner",
                "return owner or LOCAL_OWNER",
            ),
        ),
    ),
    Mutant(
        "wire.bearer-refused",
        "tools that send a bearer token are refused",
        "server",
        (
            Edit(
                "loops_transport_http.server.keys:_key_in",
                "scheme.lower()",
                "scheme.lower().replace('bearer', 'other')",
            ),
        ),
    ),
    Mutant(
        "wire.ids-not-unescaped",
        "an operation whose key has a slash cannot be polled",
        "server",
        (
            Edit(
                "loops_transport_http.server.paths:PathTable.find",
                "unquote(segment)",
                "segment",
            ),
        ),
    ),
    Mutant(
        "wire.run-header-ignored",
        "a request for another run's trainer is executed by the one at the address",
        "server",
        (Edit(f"{_CALLS}:_agreed", "named != LOCAL and told not in (None, named)", "False"),),
    ),
    Mutant(
        "wire.busy-503",
        "an overloaded service ends its callers: it answers 503",
        "server",
        (Value(_STATUS_OF, lambda known: {**known, BusyError: HTTPStatus.SERVICE_UNAVAILABLE}),),
    ),
    Mutant(
        "parts.chunk-lost",
        "the last chunk of a large batch is never trained",
        "worker",
        (
            Edit(
                "loops_core.worker.parts:PartsDesk.join",
                "[datum for body in bodies for datum in body.data]",
                "[datum for body in bodies[:-1] or bodies for datum in body.data]",
            ),
        ),
        only="http",
    ),
    Mutant(
        "parts.in-order-of-arrival",
        "the outputs of a large batch are swapped when its chunks arrive out of order",
        "worker",
        (
            Edit(
                "loops_core.worker.parts:PartsDesk.join",
                "[batch.parts[index] for index in range(batch.count)]",
                "list(batch.parts.values())",
            ),
        ),
        only="http",
    ),
    Mutant(
        "parts.run-early",
        "the first chunk of a large batch is trained before the others are there",
        "worker",
        (
            Edit(
                "loops_core.worker.trainers:TrainerDesk._prepare",
                "missing = self._parts.add(run.record.id, key, call.part, body)",
                "missing = self._parts.add(run.record.id, key, call.part, body)\n"
                "return _Submit(run, kind, body, batch_key=key)",
            ),
        ),
        only="http",
    ),
    Mutant(
        "parts.split-in-two",
        "gradients of a split batch are erased: each chunk is an operation that starts anew",
        "worker",
        (
            Edit(
                "loops_core.worker.parts:PartsDesk.join",
                "[datum for body in bodies for datum in body.data]",
                "bodies[-1].data",
            ),
        ),
        only="http",
    ),
    Mutant(
        "links.unsigned",
        "a link to a checkpoint's file can be made up",
        "server",
        (
            Edit(
                "loops_transport_http.server.files:FileLinks.answer",
                "str(self._signer.loads(unquote(token), max_age=self._kept_s))",
                "str(self._signer.loads_unsafe(unquote(token))[1])",
            ),
        ),
    ),
)
"""The faults of the wire."""
