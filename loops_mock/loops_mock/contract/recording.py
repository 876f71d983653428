"""What a rule asked of the service, as lines that a reader can follow."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, final

from loops_core.errors import LoopsError
from loops_core.protocols import BodyLimits, Transport
from loops_core.types import routes
from loops_core.types.base import WireModel
from loops_core.types.datum import Datum, EncodedTextChunk
from loops_core.types.deployment import RunReply
from loops_core.types.operation import Accepted, ForwardBody, OperationStatus
from loops_core.types.routes import Call

ReplyT = TypeVar("ReplyT", bound=WireModel)

_LONGEST: Final = 400
_UNSAID: Final = frozenset({"seq_id", "model", "run_id", "data", "session_id"})
"""Fields of bodies that say nothing about what is asked."""

_LINK: Final = re.compile(r"""(\burl['"]?[:=]\s*['"])https?:[^'"]*""")
"""A link to a file, in a files page; whoever has it can read the file."""

_POLLS: Final = frozenset({routes.RETRIEVE.name, routes.POLL.name})


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One call that was made.

    Attributes:
        asked: what was asked.
        answered: what came back.
        seconds: how long it took.
        is_poll: whether it only asked for a result.
    """

    asked: str
    answered: str
    seconds: float
    is_poll: bool = False


@final
class CallLog:
    """The calls of one rule, in the order in which they ended; safe to use from many threads.

    Attributes:
        run_ids: the runs that were made.
    """

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        """Start empty; nothing of `secrets` is ever kept."""
        self._secrets = tuple(text for text in secrets if text)
        self._made: list[Made] = []
        self._lock = threading.Lock()
        self.run_ids: list[str] = []

    def add(self, asked: str, answered: str, seconds: float, *, is_poll: bool = False) -> None:
        """Keep one call, long texts cut."""
        made = Made(
            asked=_short(self.scrub(asked)),
            answered=_short(self.scrub(answered)),
            seconds=seconds,
            is_poll=is_poll,
        )
        with self._lock:
            self._made.append(made)

    def scrub(self, text: str) -> str:
        """Return the text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _LINK.sub(r"\1***", text)

    def made(self) -> list[Made]:
        """Return the calls so far."""
        with self._lock:
            return list(self._made)


@final
class RecordingTransport:
    """A transport that keeps what it carried; closing it leaves the one below open."""

    def __init__(self, below: Transport, log: CallLog) -> None:
        """Carry calls over `below` and keep them in `log`."""
        self._below = below
        self._log = log

    def body_limits(self, base_url: str | None) -> BodyLimits:
        """Return those of the transport below."""
        return self._below.body_limits(base_url)

    @property
    def repeats_creates(self) -> bool:
        """Return what the transport below says."""
        return self._below.repeats_creates

    def heartbeat_s(self, base_url: str | None) -> float | None:
        """Return None: no rule takes as long as a trainer may be silent."""
        del base_url
        return None

    def send(self, call: Call[ReplyT]) -> ReplyT:
        """Return the service's reply; blocks the calling thread."""
        start = time.perf_counter()
        try:
            reply = self._below.send(call)
        except LoopsError as error:
            self._failed(call, error, start)
            raise
        self._answered(call, reply, start)
        return reply

    async def send_async(self, call: Call[ReplyT]) -> ReplyT:
        """Return the service's reply; never blocks the event loop."""
        start = time.perf_counter()
        try:
            reply = await self._below.send_async(call)
        except LoopsError as error:
            self._failed(call, error, start)
            raise
        self._answered(call, reply, start)
        return reply

    def download(self, url: str, target: Path, *, size_bytes: int) -> None:
        """Write what a link leads to into a file; blocks the calling thread."""
        start = time.perf_counter()
        try:
            self._below.download(url, target, size_bytes=size_bytes)
        except LoopsError as error:
            self._log.add("download", f"{type(error).__name__}: {error}", _since(start))
            raise
        self._log.add("download", f"{size_bytes} bytes", _since(start))

    def close(self) -> None:
        """Do nothing: who opened the transport below closes it."""

    async def aclose(self) -> None:
        """Do nothing, as `close`."""

    def _failed(self, call: Call[ReplyT], error: LoopsError, start: float) -> None:
        self._log.add(
            describe_call(call),
            f"{type(error).__name__}: {error}",
            _since(start),
            is_poll=call.route.name in _POLLS,
        )

    def _answered(self, call: Call[ReplyT], reply: WireModel, start: float) -> None:
        if isinstance(reply, RunReply) and call.route.name == routes.CREATE_TRAINER.name:
            self._log.run_ids.append(reply.run.id)
        is_poll = call.route.name in _POLLS
        self._log.add(describe_call(call), _describe_reply(reply), _since(start), is_poll=is_poll)


def describe_call(call: Call[Any]) -> str:
    """Return a call as one line: its name, where to, and the body's fields that say something."""
    parts = [*call.path_args.values(), *(f"{name}={value}" for name, value in call.query.items())]
    if isinstance(call.body, ForwardBody):
        parts.append(f"[{', '.join(map(_describe_datum, call.body.data))}]")
    for name, field in type(call.body).model_fields.items() if call.body is not None else ():
        value: object = getattr(call.body, name)
        if name not in _UNSAID and value != field.default:
            shown = value.model_dump() if isinstance(value, WireModel) else value
            parts.append(f"{name}={shown!r}")
    for name, pinned in (("checkpoint_path", call.pin.checkpoint_path), ("part", call.part)):
        parts += [f"{name}={pinned}"] if pinned is not None else []
    if call.pin.min_policy_version is not None:
        parts.append(f"min_policy_version={call.pin.min_policy_version}")
    return f"{call.route.name}({', '.join(parts)})"


def _describe_datum(datum: Datum) -> str:
    tokens = [
        chunk.tokens if isinstance(chunk, EncodedTextChunk) else chunk.type
        for chunk in datum.model_input.chunks
    ]
    shown = tokens[0] if len(tokens) == 1 else tokens
    inputs = (f"{name}={tensor.tolist()}" for name, tensor in datum.loss_fn_inputs.items())
    return f"({', '.join([str(shown), *inputs])})"


def _describe_reply(reply: WireModel) -> str:
    if isinstance(reply, Accepted):
        return f"accepted {reply.operation_id}"
    if isinstance(reply, OperationStatus):
        shown = reply.error if reply.status == "error" else reply.result
        return reply.status if shown is None else f"{reply.status}: {shown}"
    return str(reply)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _since(start: float) -> float:
    return time.perf_counter() - start
