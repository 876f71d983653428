"""A server process: a socket, uvicorn, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import signal
import socket
from collections.abc import Callable, Generator
from typing import Any, Final, final

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from loops_core.errors import UsageError
from loops_transport_http.server.app import Front
from loops_transport_http.server.protocol import protocol_of

KEEP_ALIVE_S: Final = 150
"""Longer than published clients keep an idle connection, so that they close it and not we."""

_GRACE_S: Final = 30
"""How long connections may take to end once the server is told to."""


def open_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Raises:
        UsageError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"host {host} port {port} cannot be listened on: {error}", field="port"
        ) from error
    return listener


@final
class _Server(uvicorn.Server):
    """Tells the application that the end has come, and ends with status 0."""

    def __init__(self, config: uvicorn.Config, front: Front, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._front = front
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if not self.should_exit:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Handle the signals that end a server while the block runs, on the event loop."""
        loop = asyncio.get_running_loop()
        ending = (signal.SIGINT, signal.SIGTERM)
        for sig in ending:
            loop.add_signal_handler(sig, self._on_signal, sig)
        try:
            yield
        finally:
            for sig in ending:
                loop.remove_signal_handler(sig)

    def _on_signal(self, sig: int) -> None:
        """Begin the end; a second signal ends the process at once."""
        if self.should_exit:
            os._exit(128 + sig)
        self._front.closing.set()
        self.should_exit = True


def make_config(front: Front, *, access_log: bool = False) -> uvicorn.Config:
    """Return how uvicorn serves an application of ours."""
    return uvicorn.Config(
        front,
        http=protocol_of(front.settings),
        ws="none",
        lifespan="on",
        proxy_headers=False,  # the address that clients see is said by `public_url`
        log_level="info" if access_log else "warning",
        access_log=access_log,
        log_config=_log_config(),
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )


def _log_config() -> dict[str, Any]:
    """Return uvicorn's own settings, but all on standard error: output is for who started us."""
    config = copy.deepcopy(LOGGING_CONFIG)
    config["handlers"]["access"]["stream"] = "ext://sys.stderr"
    return config


def run_server(
    make_front: Callable[[], Front],
    listener: socket.socket,
    *,
    on_ready: Callable[[], None],
    access_log: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT; then finish what runs, answer held polls, and return."""

    async def main() -> None:
        front = make_front()
        config = make_config(front, access_log=access_log)
        await _Server(config, front, on_ready).serve([listener])

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
