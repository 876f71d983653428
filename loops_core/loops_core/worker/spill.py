"""Bytes that memory has no room for, in files that nobody else sees and that go with us."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import IO, Final, final

_SEGMENT_BYTES: Final = 256 * 1024 * 1024


@dataclass(slots=True, eq=False)
class _Segment:
    """A file, how much was written to it, and how many of its pieces are still wanted."""

    file: IO[bytes]
    num_bytes: int = 0
    num_pieces: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Where some bytes lie."""

    segment: _Segment
    start: int
    num_bytes: int


@final
class Spill:
    """Keeps bytes in temporary files of a bounded size; called under a lock of its owner.

    A file is given back when none of its pieces is wanted any more: what comes in the order of time
    and goes in the order of time takes little more room than it has bytes.
    """

    def __init__(self, *, segment_bytes: int = _SEGMENT_BYTES) -> None:
        """Make no file yet; one of `segment_bytes` or more is followed by another."""
        self._segment_bytes = segment_bytes
        self._segments: list[_Segment] = []

    def put(self, data: bytes) -> Piece:
        """Write the bytes and return where they lie.

        Raises:
            OSError: the disk is full, or there is no folder for temporary files.
        """
        if not self._segments or self._segments[-1].num_bytes >= self._segment_bytes:
            self._segments.append(_Segment(_open_file()))
            self._give_back()
        segment = self._segments[-1]
        segment.file.seek(segment.num_bytes)
        written = segment.file.write(data)
        if written != len(data):
            raise OSError(f"{written} of {len(data)} bytes were written to a temporary file")
        piece = Piece(segment, segment.num_bytes, len(data))
        segment.num_bytes += len(data)
        segment.num_pieces += 1
        return piece

    def get(self, piece: Piece) -> bytes:
        """Return the bytes."""
        piece.segment.file.seek(piece.start)
        return piece.segment.file.read(piece.num_bytes)

    def drop(self, piece: Piece) -> None:
        """Let the bytes go; each piece once."""
        piece.segment.num_pieces -= 1
        self._give_back()

    def close(self) -> None:
        """Let everything go."""
        for segment in self._segments:
            segment.file.close()
        self._segments.clear()

    def _give_back(self) -> None:
        """Close the files that hold nothing, but the last, which is written to."""
        for segment in self._segments[:-1]:
            if not segment.num_pieces:
                segment.file.close()
                self._segments.remove(segment)


def _open_file() -> IO[bytes]:
    return tempfile.TemporaryFile(buffering=0)
