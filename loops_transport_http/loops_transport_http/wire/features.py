"""What a server offers beyond the published protocol, as one header that every response carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

_VERSION: Final = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What may be sent to a server; a client uses nothing that was not advertised.

    Attributes:
        tensors: bodies may be packed (`application/vnd.loops.tensors.v1`).
        poll: one poll may ask for many operations.
        parts: a batch may travel in parts that become one operation.
        zstd: bodies may be compressed (`Content-Encoding: zstd`).
        max_body_bytes: the largest body; None = not said.
    """

    tensors: bool = False
    poll: bool = False
    parts: bool = False
    zstd: bool = False
    max_body_bytes: int | None = None

    def to_header(self) -> str:
        """Return the header's text.

        >>> Features(tensors=True, max_body_bytes=1024).to_header()
        'tensors/1 body/1024'
        """
        flags = ("tensors", "poll", "parts", "zstd")
        words = [f"{name}/{_VERSION}" for name in flags if getattr(self, name)]
        if self.max_body_bytes is not None:
            words.append(f"body/{self.max_body_bytes}")
        return " ".join(words)

    @classmethod
    def from_header(cls, text: str | None) -> Self:
        """Return what a header says; what is not understood is not offered.

        >>> Features.from_header("poll/1 tensors/2 body/9 new/1")
        Features(tensors=False, poll=True, parts=False, zstd=False, max_body_bytes=9)
        """
        words = dict(word.split("/", 1) for word in (text or "").split() if "/" in word)
        size = words.get("body", "")
        return cls(
            tensors=words.get("tensors") == _VERSION,
            poll=words.get("poll") == _VERSION,
            parts=words.get("parts") == _VERSION,
            zstd=words.get("zstd") == _VERSION,
            max_body_bytes=int(size) if size.isascii() and size.isdigit() else None,
        )
