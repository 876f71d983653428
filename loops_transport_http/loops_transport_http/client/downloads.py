"""Reading signed links: streamed to a file, and resumed where a connection breaks."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import httpx

from loops_core.clock import Clock
from loops_core.errors import (
    CheckpointError,
    NotFoundError,
    UnreachableError,
    UnsupportedError,
)
from loops_transport_http.wire.errors import PASSING

SCHEMES: Final = ("http", "https")

_ATTEMPTS: Final = 6
_LONGEST_PAUSE_S: Final = 8.0
_MOST_REDIRECTS: Final = 5
OpenLink: TypeAlias = Callable[[httpx.Request], httpx.Response]
"""Sends a request and returns its response, unread and not redirected; nothing logs the link."""

_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)
"""Of each read, not of the file: a large one takes as long as it takes."""

_WHOLE: Final = {"Accept-Encoding": "identity"}
"""Headers of every request: none says who asks, the link itself is the permission."""


def download(open_link: OpenLink, url: str, target: Path, *, size_bytes: int, clock: Clock) -> None:
    """Write what a link leads to into a file, as `Transport.download` says.

    Raises:
        UnsupportedError: it is a link of another kind, or leads to one.
        NotFoundError: the file is gone.
        CheckpointError: the link is refused, or the file has another size.
        UnreachableError: the connection broke too often.
    """
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        raise UnsupportedError(
            f"the link is of scheme {scheme!r}: only http: and https: links can be read here; "
            "get_checkpoint_archive_url returns the links"
        )
    reading = _Reading(open_link, url, target, size_bytes)
    try:
        target.write_bytes(b"")
        for attempt in range(1, _ATTEMPTS):
            with suppress(UnreachableError):
                reading.go_on()
                return
            clock.sleep(min(_LONGEST_PAUSE_S, 0.25 * 2**attempt))
        reading.go_on()
    except OSError as error:
        raise CheckpointError(f"{target.name} cannot be written: {error}") from error


@dataclass(slots=True)
class _Reading:
    """One file on its way: what has arrived is in the target.

    Attributes:
        tag: names the file's state at the first answer; the rest has to be of the same.
    """

    open_link: OpenLink
    url: str
    target: Path
    size_bytes: int
    tag: str | None = None

    def go_on(self) -> None:
        """Fetch what is missing.

        Raises:
            UnreachableError: the connection broke; what has arrived is kept.
        """
        host = urlsplit(self.url).netloc
        try:
            with _answer(self.open_link, self.url, self._headers()) as response:
                self._append(response)
        except httpx.HTTPError as error:
            raise UnreachableError(
                f"the link to {host} broke off: {type(error).__name__}: {error}"
            ) from error
        found = self.target.stat().st_size
        if found != self.size_bytes:
            raise UnreachableError(f"{host} sent {found} of {self.size_bytes} bytes")

    def _headers(self) -> dict[str, str]:
        num_bytes = self.target.stat().st_size
        if num_bytes == 0:
            return dict(_WHOLE)
        condition = {} if self.tag is None else {"If-Range": self.tag}
        return {**_WHOLE, **condition, "Range": f"bytes={num_bytes}-"}

    def _append(self, response: httpx.Response) -> None:
        is_rest = response.status_code == HTTPStatus.PARTIAL_CONTENT
        start = self.target.stat().st_size if is_rest else 0
        _check_promised(response, start, self.size_bytes)
        tag = response.headers.get("ETag")
        self.tag = None if tag is None or tag.startswith("W/") else tag
        with self.target.open("r+b") as file:
            file.truncate(start)
            file.seek(start)
            for chunk in response.iter_raw():
                if file.tell() + len(chunk) > self.size_bytes:
                    raise CheckpointError(
                        f"the file has more than the {self.size_bytes} bytes that were expected"
                    )
                file.write(chunk)


@contextmanager
def _answer(open_link: OpenLink, url: str, headers: dict[str, str]) -> Generator[httpx.Response]:
    """Open the link, along its redirects; never on to another scheme than https."""
    request = _request(url, headers)
    for _ in range(_MOST_REDIRECTS + 1):
        response = open_link(request)
        response.request = request
        try:
            if not response.has_redirect_location:
                _check_status(response)
                yield response
                return
            where = request.url.join(response.headers["Location"])
            following = _request(str(where), headers)
            if following.url.scheme not in (request.url.scheme, "https"):
                raise UnsupportedError(
                    f"the link leads on to one of scheme {following.url.scheme!r}, "
                    f"which is not followed from {request.url.scheme}:"
                )
            request = following
        finally:
            response.close()
    raise CheckpointError(f"the link leads on more than {_MOST_REDIRECTS} times")


def _request(url: str, headers: dict[str, str]) -> httpx.Request:
    return httpx.Request("GET", url, headers=headers, extensions={"timeout": _TIMEOUT.as_dict()})


def _check_status(response: httpx.Response) -> None:
    status, host = response.status_code, response.request.url.netloc.decode()
    if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        return
    if status in PASSING:
        raise UnreachableError(f"{host} answered {status} to the link")
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        raise NotFoundError(f"{host} answered {status}: the file is gone", kind="file")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise CheckpointError(
            f"{host} answered {status}: links are good for a while only; repeat the call for new "
            "ones"
        )
    raise CheckpointError(f"{host} answered {status} to the link")


def _check_promised(response: httpx.Response, start: int, size_bytes: int) -> None:
    """Refuse an answer whose headers say already that it is not what was asked for."""
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        said = response.headers.get("Content-Range", "")
        if not said.startswith(f"bytes {start}-"):
            raise CheckpointError(f"bytes from {start} on were asked for, {said!r} were sent")
    length = response.headers.get("Content-Length", "")
    if length.isascii() and length.isdigit() and start + int(length) != size_bytes:
        raise CheckpointError(
            f"the file has {start + int(length)} bytes, {size_bytes} were expected"
        )
