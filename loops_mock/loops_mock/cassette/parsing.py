"""Reading a cassette's file, line by line, to its end or to where a recording broke off."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final, TypeVar, final

from pydantic import BaseModel, Field

from loops_core.errors import UsageError
from loops_core.protocols import BodyLimits
from loops_core.types.operation import ErrorBody
from loops_mock.cassette.content import Content
from loops_mock.cassette.layout import FORMAT, VERSION, content_digest, frame_digest
from loops_mock.cassette.tape import Cassette, Outcome, RecordedCall, RecordedFile
from loops_mock.cassette.values import Encoded, from_json, to_json

_TEXT: Final = b'{"text":'

LineT = TypeVar("LineT", bound=BaseModel)


class _Reference(BaseModel):
    text: int = Field(ge=0)
    frames: list[int] = Field(default_factory=list[int])


class _Outcome(BaseModel):
    reply: _Reference | None = None
    error: ErrorBody | None = None


class _CallLine(_Outcome):
    call: int
    route: str
    run: str | None = None
    lane: str = ""
    args: dict[str, Any] = Field(default_factory=dict)
    body: _Reference | None = None
    after: int = 0


class _ResultLine(_Outcome):
    result: str


class _CancelLine(BaseModel):
    cancel: str
    cancelled: bool


class _FileLine(BaseModel):
    download: str
    size: int
    frame: int | None = None
    left_out: str = ""


class _FramesLine(BaseModel):
    frames: list[tuple[str, int]]
    bytes: int


class _Limits(BaseModel):
    max_bytes: int | None
    is_packed: bool
    takes_parts: bool


class _LimitsLine(BaseModel):
    limits: _Limits
    base_url: str | None


def load_cassette(path: str | Path) -> Cassette:
    """Return what the file holds; nothing in it is ever run or unpickled.

    Raises:
        UsageError: there is no such file, it is no cassette, of another version, or damaged.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"path {str(path)!r} cannot be read: {error}; record it first with "
            "loops_mock.cassette.record(path)",
            field="path",
        ) from error
    return _Reader(path, raw).read()


@final
class _Reader:
    """One file on its way into memory."""

    def __init__(self, path: Path, raw: bytes) -> None:
        self._raw = raw
        self._view = memoryview(raw)
        self._tape = Cassette(path)
        self._texts: list[bytes] = []
        self._frames: list[tuple[str, memoryview]] = []
        self._digests: dict[int, bytes] = {}

    def read(self) -> Cassette:
        """Return what the file holds up to its last whole line."""
        position = self._check_start()
        while (end := self._raw.find(b"\n", position)) >= 0 and not self._tape.is_whole:
            line = self._raw[position:end]
            if line.startswith(_TEXT):
                self._texts.append(line[len(_TEXT) : -1])
                position = end + 1
                continue
            try:
                after = self._take(from_json(line), position, end + 1)
            except (ValueError, IndexError) as error:
                raise self._broken(f"damaged at byte {position}: {error}") from error
            if after is None:
                break
            position = after
        self._tape.calls.sort(key=lambda call: call.number)
        self._tape.num_frames = len(self._frames)
        self._tape.frame_bytes = sum(len(raw) for _, raw in self._frames)
        return self._tape

    def _check_start(self) -> int:
        end = self._raw.find(b"\n") + 1
        try:
            version = from_json(self._raw[:end])[FORMAT]
        except (ValueError, KeyError, TypeError) as error:
            raise self._broken(f"its first line does not name {FORMAT}") from error
        if version != VERSION:
            raise self._broken(
                f"it is of version {version}, this loops-mock reads {VERSION}; record it again"
            )
        return end

    def _take(self, line: dict[str, Any], position: int, end: int) -> int | None:
        """Take one line, and return where the next one begins; None = the file broke off."""
        tape = self._tape
        match next(iter(line)):
            case "frames":
                return self._take_frames(_FramesLine.model_validate(line), end)
            case "call":
                tape.calls.append(self._call(_CallLine.model_validate(line)))
            case "result":
                result = _ResultLine.model_validate(line)
                tape.results[result.result] = self._outcome(result)
            case "cancel":
                cancel = _CancelLine.model_validate(line)
                tape.cancels[cancel.cancel] = cancel.cancelled
            case "download":
                self._take_file(_FileLine.model_validate(line))
            case "limits":
                limits = _LimitsLine.model_validate(line)
                tape.limits[limits.base_url or ""] = BodyLimits(**limits.limits.model_dump())
            case "service":
                tape.services.append(str(line["service"]))
            case "end":
                if hashlib.sha256(self._view[:position]).hexdigest() != line.get("sha256"):
                    raise ValueError("the SHA-256 of its last line is not that of what it holds")
                tape.is_whole = True
            case _:
                pass  # a later writer may say more
        return end

    def _take_frames(self, line: _FramesLine, start: int) -> int | None:
        end = start + line.bytes
        if end + 1 > len(self._raw):
            return None
        if self._raw[end : end + 1] != b"\n" or sum(size for _, size in line.frames) != line.bytes:
            raise ValueError("buffers do not fill the bytes that were announced")
        for dtype, size in line.frames:
            self._frames.append((dtype, self._view[start : start + size]))
            start += size
        return end + 1

    def _take_file(self, line: _FileLine) -> None:
        raw = None if line.frame is None else self._frames[line.frame][1]
        self._tape.files[line.download] = RecordedFile(line.size, raw, line.left_out)

    def _call(self, line: _CallLine) -> RecordedCall:
        body = None if line.body is None else self._value(line.body)
        head = to_json(line.args).decode() if line.args else ""
        key = content_digest(
            f"{line.route}\n{head}".encode(),
            b"" if body is None else body.text,
            [] if line.body is None else [self._digest(number) for number in line.body.frames],
        )
        lane = line.run or line.lane
        content = Content(line.route, line.run, lane, line.args, body, key)
        return RecordedCall(line.call, content, self._outcome(line), line.after)

    def _outcome(self, line: _Outcome) -> Outcome:
        if line.reply is None and line.error is None:
            raise ValueError("a call or a result has neither reply nor error")
        return Outcome(None if line.reply is None else self._value(line.reply), line.error)

    def _value(self, reference: _Reference) -> Encoded:
        frames = [self._frames[number] for number in reference.frames]
        spans = [(dtype, len(raw)) for dtype, raw in frames]
        return Encoded(self._texts[reference.text], spans, [raw for _, raw in frames])

    def _digest(self, number: int) -> bytes:
        known = self._digests.get(number)
        if known is None:
            known = self._digests[number] = frame_digest(*self._frames[number])
        return known

    def _broken(self, what: str) -> UsageError:
        return UsageError(
            f"{str(self._tape.path)!r} is no cassette that can be read: {what}", field="path"
        )
