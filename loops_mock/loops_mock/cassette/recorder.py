"""What writes a cassette: it hears of every call and reply, from any thread."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Final, final

from loops_core.errors import LoopsError, error_to_body
from loops_core.protocols import BodyLimits
from loops_core.types.base import WireModel
from loops_core.types.checkpoint import CheckpointFilesResponse
from loops_core.types.deployment import SamplerReply
from loops_core.types.operation import (
    Accepted,
    CancelReply,
    ForwardBody,
    OperationStatus,
    PollReply,
)
from loops_core.types.routes import CREATE_SAMPLER, Call
from loops_mock.cassette.content import Content, clean, content_of
from loops_mock.cassette.files import file_link, keep_file
from loops_mock.cassette.kinds import Kind, is_change, is_submit, kind_of
from loops_mock.cassette.layout import CassetteWriter
from loops_mock.cassette.scrubbing import Scrubber
from loops_mock.cassette.values import Encoded, encode, from_json

MOST_BYTES: Final = 64 * 2**20
"""Larger files of checkpoints are left out unless they are asked for."""


@final
class Recorder:
    """Keeps what a program and its services say to each other.

    What is kept once is kept for good: a repeated call under the same key, a poll of an operation
    whose result is there, and a reading that says nothing new are left out; so are polls that found
    the operation at work, and failures that a repetition made good.
    """

    def __init__(
        self, path: Path, *, overwrite: bool = False, most_download_bytes: int = MOST_BYTES
    ) -> None:
        """Make the file.

        Raises:
            UsageError: there is a file already, or it cannot be written.
        """
        self.scrubber = Scrubber()
        self._most_bytes = most_download_bytes
        self._writer = CassetteWriter(path, overwrite=overwrite)
        self._lock = threading.RLock()
        self._closed = False
        self._calls = 0
        self._samplers: dict[str, str] = {}
        self._operations: dict[str, tuple[int, str, str | None]] = {}
        self._settled: set[str] = set()
        self._keys: set[tuple[str, bytes]] = set()
        self._changes: Counter[str] = Counter()
        self._readings: dict[tuple[str, bytes], Any] = {}
        self._parts: dict[str, dict[int, ForwardBody]] = {}
        self._limits: dict[str, BodyLimits] = {}
        self._failures: dict[tuple[str, bytes], tuple[int, Call[Any], LoopsError]] = {}
        self._links: dict[str, str] = {}
        self._fetched: set[str] = set()

    def opened(self, url: str, api_key: str | None) -> None:
        """Note that a client was opened on a service."""
        self.scrubber.add(api_key)
        self._writer.write({"service": self.scrubber.text(url)})

    def limited(self, base_url: str | None, limits: BodyLimits) -> None:
        """Note how large bodies may be at an address."""
        where = base_url or ""
        with self._lock:
            if not self._closed and self._limits.get(where, BodyLimits()) != limits:
                self._limits[where] = limits
                fields = {name: getattr(limits, name) for name in BodyLimits.__slots__}
                self._writer.write({"limits": fields, "base_url": base_url})

    def begin(self) -> int:
        """Return a call's place in the order of sending."""
        with self._lock:
            self._calls += 1
            return self._calls

    def answered(self, number: int, call: Call[Any], reply: WireModel) -> None:
        """Note a call's reply."""
        with self._lock:
            if self._closed:
                return
            if kind_of(call) is Kind.BY_OPERATION:
                self._note_operation(call, reply)
                return
            whole = self._whole(call, reply)
            if whole is not None:
                content = content_of(whole, self.scrubber, self._samplers)
                self._note_call(number, whole, content, reply)

    def failed(self, number: int, call: Call[Any], error: LoopsError) -> None:
        """Note that a call was refused; a failure that may pass only if nothing better comes."""
        with self._lock:
            if self._closed:
                return
            if kind_of(call) is Kind.BY_OPERATION:
                operation = call.path_args.get("operation_id", "")
                if not error.retryable and operation not in self._settled:
                    self._settled.add(operation)
                    self._write_result(operation, {"error": self._error(error)})
                return
            content = content_of(call, self.scrubber, self._samplers)
            mark = (call.idempotency_key or str(number), content.key)
            if error.retryable:
                self._failures[mark] = (number, call, error)
            elif mark not in self._keys:
                self._failures.pop(mark, None)
                self._keys.add(mark)
                self._write_call(number, content, {"error": self._error(error)})

    def downloaded(self, url: str, target: Path) -> None:
        """Note what was behind a checkpoint's link."""
        with self._lock:
            link = self._links.get(url) or self.scrubber.text(url)
            if not self._closed and link not in self._fetched:
                self._fetched.add(link)
                keep_file(self._writer, link, target, most_bytes=self._most_bytes)

    def close(self) -> None:
        """Write what never succeeded, and the last line; may be called twice."""
        with self._lock:
            self._closed = True
            failures, self._failures = self._failures, {}
            for number, call, error in failures.values():
                content = content_of(call, self.scrubber, self._samplers)
                self._write_call(number, content, {"error": self._error(error)})
            self._writer.close()

    def _whole(self, call: Call[Any], reply: WireModel) -> Call[Any] | None:
        """Return the call with all parts of its batch; None while some are missing."""
        if call.part is None or not isinstance(call.body, ForwardBody):
            return call
        key = call.idempotency_key or ""
        parts = self._parts.setdefault(key, {})
        parts[call.part.index] = call.body
        if (isinstance(reply, Accepted) and reply.missing_parts) or len(parts) < call.part.count:
            return None
        del self._parts[key]
        bodies = [parts[index] for index in range(call.part.count)]
        data = [datum for body in bodies for datum in body.data]
        whole = bodies[0].model_copy(update={"data": data})
        return dataclasses.replace(call, body=whole, part=None)

    def _note_call(self, number: int, call: Call[Any], content: Content, reply: WireModel) -> None:
        mark = (call.idempotency_key or str(number), content.key)
        self._failures.pop(mark, None)
        if isinstance(reply, Accepted):
            self._operations.setdefault(reply.operation_id, (number, content.route, content.run))
        if call.route is CREATE_SAMPLER and isinstance(reply, SamplerReply) and not content.run:
            self._samplers[reply.sampler.id] = sampler_lane(content.key)
        if isinstance(reply, CheckpointFilesResponse):
            reply = self._without_links(call, reply)
        encoded = self._encode(reply, content.run)
        changes = self._changes[content.run or ""]
        if is_change(content.route) and not is_submit(content.route):
            self._changed(content.run)
        if kind_of(call) is Kind.READ:
            place = (content.lane, content.key)
            said = (encoded.text, [bytes(raw) for raw in encoded.buffers])
            if self._readings.get(place) == said:
                return
            self._readings[place] = said
            said_after = {"after": changes, "reply": self._writer.keep(encoded)}
            self._write_call(number, content, said_after)
        elif mark not in self._keys:
            self._keys.add(mark)
            self._write_call(number, content, {"reply": self._writer.keep(encoded)})

    def _note_operation(self, call: Call[Any], reply: WireModel) -> None:
        if isinstance(reply, PollReply):
            ended = reply.operations
        elif isinstance(reply, OperationStatus):
            ended = {call.path_args["operation_id"]: reply}
        else:
            ended = dict[str, OperationStatus]()
        for operation, status in ended.items():
            if status.status != "pending" and operation not in self._settled:
                self._settled.add(operation)
                self._note_result(operation, status)
        if isinstance(reply, CancelReply):
            operation = call.path_args["operation_id"]
            self._writer.write({"cancel": operation, "cancelled": reply.cancelled})

    def _note_result(self, operation: str, status: OperationStatus) -> None:
        _, kind, run = self._operations.get(operation, (0, "", None))
        if is_change(kind):
            self._changed(run)
        if status.operation is None and kind:
            fields = {name: getattr(status, name) for name in status.model_fields_set}
            status = OperationStatus.model_validate({"operation": kind, **fields})
        encoded = self._encode(status, run)
        self._write_result(operation, {"reply": self._writer.keep(encoded)})

    def _write_result(self, operation: str, outcome: dict[str, Any]) -> None:
        number = self._operations.get(operation, (0, "", None))[0]
        self._writer.write({"result": operation, "call": number, **outcome})

    def _write_call(self, number: int, content: Content, outcome: dict[str, Any]) -> None:
        line: dict[str, Any] = {"call": number, "route": content.route}
        if content.run or content.lane:
            line |= {"run": content.run} if content.run else {"lane": content.lane}
        if content.args:
            line["args"] = content.args
        if content.body is not None:
            line["body"] = self._writer.keep(content.body)
        self._writer.write(line | outcome)

    def _without_links(
        self, call: Call[Any], reply: CheckpointFilesResponse
    ) -> CheckpointFilesResponse:
        """Return the page of files with links that open nothing."""
        checkpoint = call.path_args.get("checkpoint_id", "")
        plain = reply.model_copy(deep=True)
        for file in plain.presigned_urls:
            link = file_link(checkpoint, file.relative_file_name)
            self._links[file.url] = link
            file.url = link
        return plain

    def _encode(self, reply: WireModel, run: str | None) -> Encoded:
        encoded = encode(reply)
        return Encoded(clean(encoded.text, run, self.scrubber), encoded.spans, encoded.buffers)

    def _error(self, error: LoopsError) -> Any:
        text = error_to_body(error).model_dump_json(exclude_defaults=True)
        return from_json(self.scrubber.text(text))

    def _changed(self, run: str | None) -> None:
        self._changes[""] += 1
        if run:
            self._changes[run] += 1


def sampler_lane(key: bytes) -> str:
    """Return whom calls of standalone samplers that were asked for alike speak to."""
    return f"sampler:{key.hex()[:16]}"
