"""The files of checkpoints in a cassette."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from loops_mock.cassette.layout import CassetteWriter
from loops_mock.cassette.values import Encoded


def file_link(checkpoint_id: str, name: str) -> str:
    """Return what stands on a cassette for a link: whose file it is, and nothing that opens it."""
    return f"checkpoint:{quote(checkpoint_id)}/{quote(name)}"


def keep_file(writer: CassetteWriter, link: str, source: Path, *, most_bytes: int) -> None:
    """Write what a link led to, or how large it was where that is more than `most_bytes`."""
    size = source.stat().st_size
    line = {"download": link, "size": size}
    if size <= most_bytes:
        kept = writer.keep(Encoded(b'{"file":0}', [("uint8", size)], [source.read_bytes()]))
        writer.write({**line, "frame": kept["frames"][0]})
    else:
        writer.write({**line, "left_out": f"larger than {most_bytes} bytes"})
