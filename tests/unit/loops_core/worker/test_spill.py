"""Bytes in temporary files: read as they were written, and given back in time."""

from __future__ import annotations

from pathlib import Path

import pytest

from loops_core.worker.spill import Spill

DESCRIPTORS = Path("/proc/self/fd")


def num_descriptors() -> int:
    return len(list(DESCRIPTORS.iterdir()))


def test_bytes_are_read_as_they_were_written() -> None:
    kept = Spill()
    pieces = [kept.put(data) for data in (b"one", b"", b"three")]
    assert [kept.get(piece) for piece in reversed(pieces)] == [b"three", b"", b"one"]
    assert kept.get(pieces[0]) == b"one"
    kept.close()
    kept.close()


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="counts descriptors where Linux lists them")
def test_a_file_goes_with_the_last_of_its_pieces() -> None:
    before, kept = num_descriptors(), Spill(segment_bytes=10)
    pieces = [kept.put(bytes(6)) for _ in range(6)]
    assert num_descriptors() == before + 3
    for piece in pieces[:4]:
        kept.drop(piece)
    assert num_descriptors() == before + 1
    assert kept.get(pieces[5]) == bytes(6)
    kept.close()
    assert num_descriptors() == before
