"""A transport that answers from a cassette."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, final

from loops_core.errors import CheckpointError, NotFoundError, UsageError
from loops_core.protocols import BodyLimits, Transport
from loops_core.types.base import WireModel
from loops_core.types.deployment import SessionReply
from loops_core.types.routes import CREATE_SESSION, Call
from loops_mock.cassette.player import UNKNOWN, Player

_log = logging.getLogger(__name__)

ReplyT = TypeVar("ReplyT", bound=WireModel)


def _nothing() -> None:
    return None


def _new_session() -> Call[SessionReply]:
    return Call(route=CREATE_SESSION, idempotency_key=secrets.token_hex(16))


@final
class ReplayingTransport:
    """Answers calls from a cassette, without a service.

    What is not on the cassette is refused, or carried to a live service where there is one; each
    call that is carried there is logged as a warning.
    """

    def __init__(
        self,
        player: Player,
        open_live: Callable[[], Transport] | None = None,
        *,
        on_close: Callable[[], object] = _nothing,
    ) -> None:
        """Answer from the player.

        Args:
            player: what answers; several transports may share it.
            open_live: opens the service that unknown calls are carried to; None = they are refused.
            on_close: called once, at the first close.
        """
        self._on_close = on_close
        self._session: str | None = None
        self._player = player
        self._open_live = open_live
        self._live: Transport | None = None
        self._lock = threading.Lock()
        self._closed = False

    def body_limits(self, base_url: str | None) -> BodyLimits:
        """Return what the recorded service said, where it changed how batches travelled."""
        return self._player.limits(base_url)

    @property
    def repeats_creates(self) -> bool:
        """Return True: a repeated key is the same call."""
        return True

    def heartbeat_s(self, base_url: str | None) -> float | None:
        """Return None: nothing here ends for want of a sign of life."""
        del base_url
        return None

    def send(self, call: Call[ReplyT]) -> ReplyT:
        """Return the recorded reply."""
        self._check_open()
        try:
            return self._player.answer(call)
        except NotFoundError as error:
            live = self._pass_on(call, error)
        if self._needs_session(call):
            self._session = live.send(_new_session()).session.id
        return live.send(self._for_live(call))

    async def send_async(self, call: Call[ReplyT]) -> ReplyT:
        """Return the recorded reply, at once."""
        self._check_open()
        try:
            return self._player.answer(call)
        except NotFoundError as error:
            live = self._pass_on(call, error)
        if self._needs_session(call):
            self._session = (await live.send_async(_new_session())).session.id
        return await live.send_async(self._for_live(call))

    def download(self, url: str, target: Path, *, size_bytes: int) -> None:
        """Write the recorded file.

        Raises:
            NotFoundError: the file is not on the cassette; it says why.
            CheckpointError: it has another size.
        """
        self._check_open()
        link = self._player.scrubber.text(url)
        file = self._player.tape.files.get(link)
        if file is None or file.raw is None:
            why = "its download was not recorded" if file is None else file.left_out
            error = NotFoundError(
                f"the file behind {link!r} is not on the cassette: {why}; download it while "
                "recording, with record(most_download_bytes=) at least its size",
                kind=UNKNOWN,
                name=link,
            )
            if file is not None or self._open_live is None:
                raise error
            self._live_transport().download(url, target, size_bytes=size_bytes)
            return
        if file.size_bytes != size_bytes:
            raise CheckpointError(
                f"the recorded file has {file.size_bytes} bytes, {size_bytes} were expected"
            )
        target.write_bytes(file.raw)

    def close(self) -> None:
        """End this transport and the live one; may be called twice."""
        live = self._end()
        if live is not None:
            live.close()

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop."""
        live = self._end()
        if live is not None:
            await live.aclose()

    def _end(self) -> Transport | None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._on_close()
            live, self._live = self._live, None
            return live

    def _pass_on(self, call: Call[ReplyT], error: NotFoundError) -> Transport:
        """Return the live service for an unknown call, or raise the error."""
        if self._open_live is None or error.kind != UNKNOWN:
            raise error
        if call.path_args.get("operation_id") is None:
            _log.warning("passed on to the live service: %s", error.message)
        return self._live_transport()

    def _needs_session(self, call: Call[ReplyT]) -> bool:
        """Tell whether the live service has to open a session: it knows none of the recorded."""
        return self._session is None and hasattr(call.body, "session_id")

    def _for_live(self, call: Call[ReplyT]) -> Call[ReplyT]:
        if call.body is None or not hasattr(call.body, "session_id"):
            return call
        body = call.body.model_copy(update={"session_id": self._session})
        return dataclasses.replace(call, body=body)

    def _live_transport(self) -> Transport:
        with self._lock:
            if self._live is None:
                assert self._open_live is not None
                self._live = self._open_live()
            return self._live

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("the client is closed: open a new ServiceClient")
