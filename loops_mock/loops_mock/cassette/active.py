"""Recording and replaying: what is under way in this process, and the transports it gives out."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, final
from urllib.parse import parse_qsl

from loops_core.errors import UsageError

if TYPE_CHECKING:
    from loops_core.hooks import TransportConfig
    from loops_core.protocols import Transport
    from loops_mock.cassette.player import Player
    from loops_mock.cassette.recorder import Recorder

SCHEME: Final = "cassette"
RECORD_VARIABLE: Final = "LOOPS_RECORD"
"""Names a file that everything this process does from its first client on is recorded to."""

_MOST_BYTES: Final = 64 * 2**20

_live: ContextVar[bool] = ContextVar("loops_cassette_live", default=False)
"""Whether a transport is being opened for the calls that a cassette does not know."""


@final
class _Process:
    """What is under way in this process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.recorders: list[Recorder] = []
        self.players: list[tuple[Player, bool]] = []
        self.from_environment: Recorder | None = None
        self.shared: dict[str, tuple[Player, int]] = {}


_process: Final = _Process()


@contextmanager
def record(
    path: str | Path, *, overwrite: bool = False, most_download_bytes: int = _MOST_BYTES
) -> Generator[Recorder]:
    """Record what clients that are opened in this block say to their services.

    The file can be read at any time, also after a crash; it is complete when the block ends.

    Args:
        path: the new file.
        overwrite: whether a file that is there is recorded again.
        most_download_bytes: larger files of checkpoints are left out.

    Raises:
        UsageError: there is a file already, or it cannot be written.
    """
    from loops_mock.cassette.recorder import Recorder

    recorder = Recorder(Path(path), overwrite=overwrite, most_download_bytes=most_download_bytes)
    with _process.lock:
        _process.recorders.append(recorder)
    try:
        yield recorder
    finally:
        with _process.lock:
            _process.recorders.remove(recorder)
        recorder.close()


@contextmanager
def replay(path: str | Path, *, unknown: Literal["refuse", "pass"] = "refuse") -> Generator[Player]:
    """Answer clients that are opened in this block from a cassette, whatever their URL.

    Args:
        path: the file.
        unknown: what becomes of a call that is not on it: `refuse` raises a `NotFoundError` that
            names what comes nearest; `pass` carries it to the service at the client's URL.

    Raises:
        UsageError: the file cannot be read, or `unknown` is neither of the two.
    """
    from loops_mock.cassette.parsing import load_cassette
    from loops_mock.cassette.player import Player

    if unknown not in ("refuse", "pass"):
        raise UsageError(f"unknown must be 'refuse' or 'pass', not {unknown!r}", field="unknown")
    player = Player(load_cassette(path))
    entry = (player, unknown == "pass")
    with _process.lock:
        _process.players.append(entry)
    try:
        yield player
    finally:
        with _process.lock:
            _process.players.remove(entry)


def open_replayed(url: str, config: TransportConfig) -> Transport | None:
    """Return a transport that answers from a cassette, where one is played or the URL names one.

    Raises:
        UsageError: the URL names no cassette that can be read.
    """
    if _live.get():
        return None
    with _process.lock:
        player, passes = _process.players[-1] if _process.players else (None, False)
    if player is not None:
        from loops_mock.cassette.replaying import ReplayingTransport

        return ReplayingTransport(player, partial(_open_live, url, config) if passes else None)
    return _open_named(url, config) if url.partition(":")[0].lower() == SCHEME else None


def open_recorded(transport: Transport, url: str, config: TransportConfig) -> Transport:
    """Return the transport, wrapped where a recording is under way."""
    recorder = None if _live.get() else _recorder()
    if recorder is None:
        return transport
    from loops_mock.cassette.recording import RecordingTransport

    recorder.opened(url, config.api_key)
    return RecordingTransport(transport, recorder)


def _recorder() -> Recorder | None:
    with _process.lock:
        if _process.recorders:
            return _process.recorders[-1]
        path = os.environ.get(RECORD_VARIABLE)
        if _process.from_environment is None and path:
            from loops_mock.cassette.recorder import Recorder

            _process.from_environment = Recorder(Path(path))
            atexit.register(_process.from_environment.close)
        return _process.from_environment


def _open_named(url: str, config: TransportConfig) -> Transport:
    """Return the transport of a `cassette:PATH` URL; clients that are open at once share a tape."""
    from loops_mock.cassette.parsing import load_cassette
    from loops_mock.cassette.player import Player
    from loops_mock.cassette.replaying import ReplayingTransport

    path, live = _read_url(url)
    name = str(Path(path).absolute())
    with _process.lock:
        player, users = _process.shared.get(name) or (Player(load_cassette(path)), 0)
        _process.shared[name] = (player, users + 1)
    opener = None if live is None else partial(_open_live, live, config)
    return ReplayingTransport(player, opener, on_close=partial(_give_back, name))


def _read_url(url: str) -> tuple[str, str | None]:
    path, _, query = url.partition(":")[2].partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    live = options.pop("live", None)
    if not path or options or live == "":
        raise UsageError(
            f"base_url {url!r} is no cassette: expected cassette:PATH, or "
            "cassette:PATH?live=URL to carry unknown calls to a service",
            field="base_url",
        )
    return path, live


def _give_back(name: str) -> None:
    with _process.lock:
        player, users = _process.shared.pop(name)
        if users > 1:
            _process.shared[name] = (player, users - 1)


def _open_live(url: str, config: TransportConfig) -> Transport:
    token = _live.set(True)
    try:
        return config.plugins.open_transport(url, api_key=config.api_key)
    finally:
        _live.reset(token)
