"""The in-process transport: `inproc:NAME` opens backend NAME in this process.

The part behind `?` sets options: `data_dir=PATH` says where logs, records and checkpoints are kept
(default: the environment variable LOOPS_DATA_DIR, else the user's data directory);
`data_dir=:memory:` keeps nothing beyond `close`. Every other option goes to the backend, which
refuses what it does not know.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final, TypeVar, final
from urllib.parse import parse_qsl, urlsplit
from urllib.request import url2pathname

from loops_core.errors import CheckpointError, UnsupportedError, UsageError
from loops_core.hooks import TransportConfig, hookimpl
from loops_core.protocols import BodyLimits, CheckpointStore, Transport
from loops_core.types.base import WireModel
from loops_core.types.routes import Call

ReplyT = TypeVar("ReplyT", bound=WireModel)

SCHEME: Final = "inproc"
MEMORY: Final = ":memory:"


@final
class InProcessTransport:
    """Carries calls to a worker in this process, which it owns."""

    def __init__(self, url: str, config: TransportConfig) -> None:
        """Open the worker that the URL names.

        Raises:
            UsageError: the URL names no backend, or an option without value or given twice.
            PluginError: no installed plugin brings the backend.
        """
        from loops_core.worker.opening import ServiceOptions, open_service

        name, options = _read_url(url)
        data_dir = options.pop("data_dir", None)
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        if data_dir == MEMORY:
            self._scratch = tempfile.TemporaryDirectory(prefix="loops-")
            directory, files = None, Path(self._scratch.name)
        else:
            directory = files = _data_dir(data_dir)
            directory.mkdir(parents=True, exist_ok=True)
        self._service = open_service(
            config.plugins,
            ServiceOptions(backend=name, backend_options=options, files=files, directory=directory),
        )
        self._closed = False

    def body_limits(self, base_url: str | None) -> BodyLimits:
        """Return no bound: within a process a call's body may have any size."""
        del base_url
        return BodyLimits()

    @property
    def repeats_creates(self) -> bool:
        """Return True: the worker keeps the keys of creates."""
        return True

    def heartbeat_s(self, base_url: str | None) -> float | None:
        """Return None: a trainer of this process does not end before it."""
        del base_url
        return None

    def send(self, call: Call[ReplyT]) -> ReplyT:
        """Return the worker's reply; blocks the calling thread."""
        self._check_open()
        return self._service.handle(call)

    async def send_async(self, call: Call[ReplyT]) -> ReplyT:
        """Return the worker's reply; never blocks the event loop."""
        self._check_open()
        return await self._service.handle_async(call)

    def download(self, url: str, target: Path, *, size_bytes: int) -> None:
        """Copy the file that a `file:` link names."""
        self._check_open()
        copy_linked_file(url, target, size_bytes=size_bytes)

    def close(self) -> None:
        """Close the worker; queued operations of a durable log wait for the next start."""
        if self._closed:
            return
        self._closed = True
        self._service.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop."""
        import asyncio

        await asyncio.to_thread(self.close)

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("the client is closed: open a new ServiceClient")


def copy_linked_file(url: str, target: Path, *, size_bytes: int) -> None:
    """Copy the file that a `file:` link names, as `Transport.download` says.

    Raises:
        UnsupportedError: it is a link of another kind.
        CheckpointError: the file cannot be copied, or has another size.
    """
    parts = urlsplit(url)
    if parts.scheme != "file":
        raise UnsupportedError(
            f"the link is of scheme {parts.scheme!r}: only file: links can be read in process; "
            "get_checkpoint_archive_url returns the links"
        )
    try:
        shutil.copyfile(url2pathname(parts.path), target)
    except OSError as error:
        raise CheckpointError(f"the file cannot be copied: {error}") from error
    size = target.stat().st_size
    if size != size_bytes:
        raise CheckpointError(f"the file has {size} bytes, {size_bytes} were expected")


def _read_url(url: str) -> tuple[str, dict[str, str]]:
    """Return the backend's name and the options of an `inproc:` URL."""
    parts = urlsplit(url)
    name = parts.netloc + parts.path
    if not name:
        raise UsageError(
            f"base_url {url!r} names no backend: expected inproc:jax or inproc:mock",
            field="base_url",
        )
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise UsageError(f"base_url {url!r} has bad options: {error}", field="base_url") from error
    options = dict(pairs)
    if len(options) != len(pairs) or "" in options.values():
        raise UsageError(
            f"base_url {url!r} has an option without value or given twice: expected "
            "inproc:NAME?option=value&other=value",
            field="base_url",
        )
    return name, options


def _data_dir(given: str | None) -> Path:
    """Return the directory for logs, records and checkpoints."""
    chosen = given or os.environ.get("LOOPS_DATA_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("loops", appauthor=False))


@hookimpl
def loops_transport(url: str, config: TransportConfig) -> Transport | None:
    """Return the transport for an `inproc:` URL."""
    return InProcessTransport(url, config) if url.partition(":")[0] == SCHEME else None


@hookimpl
def loops_checkpoint_store(uri: str) -> CheckpointStore | None:
    """Return a store in the local directory of a `file:` URI."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        return None
    from loops_core.worker.local_store import LocalStore

    return LocalStore(Path(url2pathname(parts.path)))


@hookimpl
def loops_resolve_model(base_model: str) -> Path | None:
    """Return the directory itself when the name is a local directory with a config.json."""
    folder = Path(base_model).expanduser()
    return folder.absolute() if (folder / "config.json").is_file() else None
