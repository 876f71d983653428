"""What a cassette holds, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from loops_core.protocols import BodyLimits
from loops_core.types.operation import ErrorBody
from loops_mock.cassette.content import Content
from loops_mock.cassette.values import Encoded


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call or an operation: one of the two.

    Attributes:
        reply: what came back.
        error: what it was refused with, or failed with.
    """

    reply: Encoded | None = None
    error: ErrorBody | None = None


@final
@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A call and its reply.

    Attributes:
        number: its place in the order of sending.
        content: what it said.
        outcome: what came back.
        after: for a reading: how many changes of its run had been answered before it.
    """

    number: int
    content: Content
    outcome: Outcome
    after: int = 0


@final
@dataclass(frozen=True, slots=True)
class RecordedFile:
    """What was behind a checkpoint's link.

    Attributes:
        size_bytes: its size.
        raw: its bytes; None where they were left out.
        left_out: why.
    """

    size_bytes: int
    raw: memoryview | None = None
    left_out: str = ""


@final
@dataclass(slots=True)
class Cassette:
    """Everything that a file holds.

    Attributes:
        path: the file.
        services: the URLs that clients were opened on.
        calls: calls with their replies, in the order of sending.
        results: what operations ended with, by id.
        cancels: the last answer to a cancel, by operation.
        files: checkpoints' files by link.
        limits: how large bodies could be, by address.
        num_frames: how many buffers it holds.
        frame_bytes: their sizes added up.
        is_whole: whether the recording was ended properly.
    """

    path: Path
    services: list[str] = field(default_factory=list[str])
    calls: list[RecordedCall] = field(default_factory=list[RecordedCall])
    results: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    cancels: dict[str, bool] = field(default_factory=dict[str, bool])
    files: dict[str, RecordedFile] = field(default_factory=dict[str, RecordedFile])
    limits: dict[str, BodyLimits] = field(default_factory=dict[str, BodyLimits])
    num_frames: int = 0
    frame_bytes: int = 0
    is_whole: bool = False
