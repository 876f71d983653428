"""The file of a cassette: lines of JSON, and raw buffers behind the lines that announce them.

A line is one JSON object. Its first key says what it is:

`loops_cassette`  the first line: the version of the format
`service`         a service that was opened while recording, as its URL without secrets
`frames`          `[dtype, size]` of new buffers, whose `bytes` follow the line, then a newline
`text`            a JSON value, which later lines name by its number
`call`            a call and its reply; `call` is its place in the order of sending
`result`          what an operation ended with, by its id
`limits`          how large bodies could be at an address
`download`        what was behind a checkpoint's link
`end`             the last line: counts, and the SHA-256 of everything before it

Buffers and texts are numbered from 0 in order of appearance and written once, whoever uses them:
`{"text": 3, "frames": [17, 18]}` is text 3, in which frame 0 stands for buffer 17. A file without
its last line is the whole prefix of a recording that broke off.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, final

from loops_core.errors import UsageError
from loops_mock.cassette.values import Encoded, to_json

FORMAT: Final = "loops_cassette"
VERSION: Final = 1

Reference = dict[str, Any]
"""A value in the file: the number of its text, and the numbers of its buffers."""


@final
class CassetteWriter:
    """Appends to a new file; every line is whole once its method has returned."""

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Make the file.

        Raises:
            UsageError: there is a file already, or it cannot be written.
        """
        try:
            self._file: BinaryIO = path.open("wb" if overwrite else "xb")
        except FileExistsError as error:
            raise UsageError(
                f"path {str(path)!r} exists: expected a new file; remove it, or pass "
                "overwrite=True to record it again",
                field="path",
            ) from error
        except OSError as error:
            raise UsageError(
                f"path {str(path)!r} cannot be written: {error}", field="path"
            ) from error
        self._lock = threading.Lock()
        self._digest = hashlib.sha256()
        self._frames: dict[bytes, int] = {}
        self._texts: dict[bytes, int] = {}
        self._lines: dict[str, int] = {}
        self.write({FORMAT: VERSION})

    def keep(self, value: Encoded) -> Reference:
        """Return how later lines name the value, whose text and buffers are in the file now."""
        with self._lock:
            frames = self._keep_frames(value)
            digest = _digest_of(value.text)
            number = self._texts.get(digest)
            if number is None:
                number = self._texts[digest] = len(self._texts)
                self._append(b'{"text":' + value.text + b"}\n")
            self._file.flush()
        return {"text": number, "frames": frames} if frames else {"text": number}

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line."""
        raw = to_json(line) + b"\n"
        with self._lock:
            kind = next(iter(line))
            self._lines[kind] = self._lines.get(kind, 0) + 1
            self._append(raw)
            self._file.flush()

    def close(self) -> None:
        """Write the last line; may be called twice."""
        with self._lock:
            if self._file.closed:
                return
            counts = {name: self._lines.get(name, 0) for name in ("call", "result", "download")}
            end = {"end": counts, "sha256": self._digest.hexdigest()}
            self._file.write(to_json(end) + b"\n")
            self._file.close()

    def _keep_frames(self, value: Encoded) -> list[int]:
        """Return the numbers of the buffers, after appending those that are new."""
        numbers: list[int] = []
        new: list[tuple[str, int]] = []
        raw: list[bytes | memoryview] = []
        for (dtype, size), buffer in zip(value.spans, value.buffers, strict=True):
            digest = frame_digest(dtype, buffer)
            number = self._frames.get(digest)
            if number is None:
                number = self._frames[digest] = len(self._frames)
                new.append((dtype, size))
                raw.append(buffer)
            numbers.append(number)
        if new:
            total = sum(size for _, size in new)
            self._append(to_json({"frames": new, "bytes": total}) + b"\n")
            for buffer in raw:
                self._append(buffer)
            self._append(b"\n")
        return numbers

    def _append(self, raw: bytes | memoryview) -> None:
        self._digest.update(raw)
        self._file.write(raw)


def frame_digest(dtype: str, buffer: bytes | memoryview) -> bytes:
    """Return what tells one buffer from all others."""
    digest = hashlib.blake2b(buffer, digest_size=16)
    digest.update(dtype.encode())
    return digest.digest()


def content_digest(head: bytes, text: bytes, frames: Sequence[bytes]) -> bytes:
    """Return what tells one call's content from all others: its head, its text, its buffers."""
    digest = hashlib.blake2b(head, digest_size=16)
    digest.update(b"\0")
    digest.update(_digest_of(text))
    for frame in frames:
        digest.update(frame)
    return digest.digest()


def _digest_of(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=16).digest()
