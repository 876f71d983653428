"""Reading signed links, from a server that breaks off, moves and refuses as a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from loops_core.errors import (
    CheckpointError,
    LoopsError,
    NotFoundError,
    UnreachableError,
    UnsupportedError,
)
from loops_transport_http.client.downloads import download

CONTENT = bytes(range(256)) * 40
URL = "http://files.test/a/b?signature=secret"
Answer = Callable[[httpx.Request], httpx.Response]


class CountingClock:
    """A clock whose sleeps take no time."""

    def __init__(self) -> None:
        self.naps: list[float] = []

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


class Stream(httpx.SyncByteStream):
    """A body that is on its way, and may break off."""

    def __init__(self, content: bytes, *, breaks: bool = False) -> None:
        self._content = content
        self._breaks = breaks

    def __iter__(self) -> Iterator[bytes]:
        yield self._content
        if self._breaks:
            raise httpx.ReadError("connection reset")


class Files:
    """Serves the content, and breaks off after so many bytes of each of the first answers."""

    def __init__(self, *breaks: int, ranges: bool = True, tags: tuple[str, ...] = ('"1"',)) -> None:
        self.requests: list[httpx.Request] = []
        self._breaks = list(breaks)
        self._ranges = ranges
        self._tags = tags

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        tag = self._tags[min(len(self.requests), len(self._tags)) - 1]
        asked = request.headers.get("Range")
        is_same = request.headers.get("If-Range", tag) == tag
        start = int(asked[6:-1]) if asked and self._ranges and is_same else 0
        rest = CONTENT[start:]
        headers = {"ETag": tag, "Content-Length": str(len(rest))}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        status = 206 if start else 200
        if self._breaks:
            stream = Stream(rest[: self._breaks.pop(0)], breaks=True)
            return httpx.Response(status, headers=headers, stream=stream)
        return httpx.Response(status, headers=headers, stream=Stream(rest))


def fetch(answer: Answer, target: Path, url: str = URL, size_bytes: int = len(CONTENT)) -> None:
    links = httpx.MockTransport(answer)
    download(links.handle_request, url, target, size_bytes=size_bytes, clock=CountingClock())


def test_a_link_is_read_whole_and_shown_no_key(tmp_path: Path) -> None:
    files = Files()
    fetch(files, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert files.requests[0].headers.keys().isdisjoint({"authorization", "range"})


def test_a_broken_download_goes_on_where_it_broke(tmp_path: Path) -> None:
    files = Files(3000, 0, 1000)
    fetch(files, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    ranges = [request.headers.get("Range") for request in files.requests]
    assert ranges == [None, "bytes=3000-", "bytes=3000-", "bytes=4000-"]


def test_a_server_without_ranges_is_read_from_the_start_again(tmp_path: Path) -> None:
    fetch(Files(3000, 5000, ranges=False), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_two_states_of_a_file_are_never_mixed(tmp_path: Path) -> None:
    files = Files(3000, tags=('"1"', '"2"'))
    fetch(files, tmp_path / "file")
    assert files.requests[1].headers["If-Range"] == '"1"'
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_connection_that_always_breaks_is_given_up(tmp_path: Path) -> None:
    files = Files(*[10] * 20)
    with pytest.raises(UnreachableError, match=r"files\.test broke off: ReadError"):
        fetch(files, tmp_path / "file")
    assert len(files.requests) == 6


def test_a_storm_of_passing_failures_is_sat_out(tmp_path: Path) -> None:
    storm = [503, 502, 429, 500]
    files = Files()

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(storm.pop()) if storm else files(request)

    fetch(answer, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (403, CheckpointError, "answered 403: links are good for a while only"),
        (401, CheckpointError, "answered 401"),
        (404, NotFoundError, "answered 404: the file is gone"),
        (410, NotFoundError, "answered 410"),
        (416, CheckpointError, "answered 416"),
        (302, CheckpointError, "answered 302"),
    ],
)
def test_a_refused_link_is_asked_for_once_and_its_secret_stays_out_of_the_message(
    tmp_path: Path, status: int, error: type[LoopsError], message: str
) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status)

    with pytest.raises(error, match=message) as caught:
        fetch(answer, tmp_path / "file")
    assert len(asked) == 1
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("size_bytes", [len(CONTENT) - 1, len(CONTENT) + 1])
@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_of_another_size_is_an_error(
    tmp_path: Path, size_bytes: int, *, says_length: bool
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers.get("Range") == f"bytes={len(CONTENT)}-":
            return httpx.Response(416)
        headers = {"Content-Length": str(len(CONTENT))} if says_length else {}
        return httpx.Response(200, headers=headers, stream=Stream(CONTENT))

    with pytest.raises(CheckpointError):
        fetch(answer, tmp_path / "file", size_bytes=size_bytes)
    assert (tmp_path / "file").stat().st_size <= size_bytes


def test_a_rest_that_starts_elsewhere_is_refused(tmp_path: Path) -> None:
    files = Files(3000)

    def answer(request: httpx.Request) -> httpx.Response:
        if "Range" in request.headers:
            headers = {"Content-Range": "bytes 0-9/10240"}
            return httpx.Response(206, headers=headers, stream=Stream(CONTENT[:10]))
        return files(request)

    with pytest.raises(CheckpointError, match="bytes from 3000 on were asked for"):
        fetch(answer, tmp_path / "file")


def test_a_link_may_lead_on_to_another_host(tmp_path: Path) -> None:
    files = Files()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "files.test":
            return httpx.Response(302, headers={"Location": "https://else.test/b"})
        return files(request)

    fetch(answer, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://else.test/b"])
def test_a_link_may_not_lead_on_to_another_scheme(tmp_path: Path, location: str) -> None:
    with pytest.raises(UnsupportedError, match="which is not followed"):
        fetch(lambda _: httpx.Response(302, headers={"Location": location}), tmp_path / "file")


def test_an_encrypted_link_may_not_lead_on_to_an_open_one(tmp_path: Path) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"Location": "http://files.test/b"})

    with pytest.raises(UnsupportedError, match="not followed from https:"):
        fetch(answer, tmp_path / "file", "https://files.test/a")


def test_a_link_that_leads_in_circles_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="more than 5 times"):
        fetch(lambda _: httpx.Response(307, headers={"Location": URL}), tmp_path / "file")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "s3://bucket/key", "nonsense"])
def test_a_link_of_another_kind_is_unsupported(tmp_path: Path, url: str) -> None:
    with pytest.raises(UnsupportedError, match="only http: and https: links"):
        fetch(Files(), tmp_path / "file", url)
    assert not (tmp_path / "file").exists()
