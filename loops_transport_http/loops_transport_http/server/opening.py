"""From what the command line asks for to a server that runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from loops_core.errors import UsageError
from loops_core.plugins import Plugins
from loops_core.worker.opening import CHECKPOINTS, ServiceOptions, open_service
from loops_core.worker.queue_settings import QueueSettings
from loops_transport_http.server.app import Front
from loops_transport_http.server.files import FileLinks
from loops_transport_http.server.keys import KeyRing
from loops_transport_http.server.loopback import is_loopback
from loops_transport_http.server.running import open_socket, run_server
from loops_transport_http.server.settings import MIB, ServerSettings

Facts = dict[str, str | int | None]
"""What a starter has to know: addresses, key, process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What is to be served, and how; fields as the options of `loops serve`."""

    backend: str
    served: Mapping[str, str]
    host: str
    port: int
    files: Path
    is_memory: bool = False
    keys: tuple[str, ...] = ()
    no_auth: bool = False
    records_url: str | None = None
    public_url: str | None = None
    local_paths: bool = False
    max_body_mib: int = 64
    max_reading_mib: int = 512
    max_queued: int = 4096
    max_queued_mib: int = 512
    room_wait_s: float = 20.0
    access_log: bool = False


def run_offer(offer: Offer, show: Callable[[Facts], None]) -> None:
    """Serve until told to end; `show` is called once `/health` answers.

    Raises:
        UsageError: a public address without a key, or an address that cannot be listened on.
        PluginError: no installed plugin brings the backend.
        NotFoundError: nobody knows a model.
    """
    keys, new_key = _open_keys(offer)
    settings, queue = _bounds(offer)
    listener = open_socket(offer.host, offer.port)
    try:
        logging.basicConfig(level=logging.WARNING)
        service = open_service(
            Plugins.load(),
            ServiceOptions(
                backend=offer.backend,
                files=offer.files,
                directory=None if offer.is_memory else offer.files,
                records_url=offer.records_url,
                served=offer.served,
                local_paths=offer.local_paths,
                queue=queue,
            ),
        )
        try:
            for name in offer.served:
                service.preload(name)
            links = FileLinks.open(
                offer.files, root=offer.files / CHECKPOINTS, kept_s=settings.link_kept_s
            )
            run_server(
                lambda: Front(service, keys, links, settings),
                listener,
                on_ready=lambda: show(_facts(offer, listener.getsockname()[1], new_key)),
                access_log=offer.access_log,
            )
        finally:
            service.close()
    finally:
        listener.close()


def _bounds(offer: Offer) -> tuple[ServerSettings, QueueSettings]:
    """Return the bounds of requests and of queues."""
    settings = ServerSettings(
        public_url=offer.public_url,
        max_body_bytes=offer.max_body_mib * MIB,
        max_reading_bytes=offer.max_reading_mib * MIB,
        room_wait_s=offer.room_wait_s,
    )
    queue = QueueSettings(
        max_queued=offer.max_queued,
        max_queued_bytes=offer.max_queued_mib * MIB,
        submit_wait_s=offer.room_wait_s,
    )
    return settings, queue


def _open_keys(offer: Offer) -> tuple[KeyRing, str | None]:
    """Return the keys, and the one that has just been made."""
    if not offer.keys and not is_loopback(offer.host):
        raise UsageError(
            f"host {offer.host} can be reached from other machines: give --api-key, or listen on "
            "127.0.0.1",
            field="host",
        )
    if offer.no_auth:
        return KeyRing.open_to_all(), None
    if offer.keys:
        return KeyRing.of_keys(offer.keys), None
    return KeyRing.of_directory(offer.files)


def _facts(offer: Offer, port: int, new_key: str | None) -> Facts:
    shown_host = f"[{offer.host}]" if ":" in offer.host else offer.host
    url = (offer.public_url or f"http://{shown_host}:{port}").rstrip("/")
    given = offer.keys[0].rpartition("=")[2] if len(offer.keys) == 1 else None
    return {
        "url": url,
        "api_key": new_key or given,
        "trainer_url": f"{url}/trainers/local",
        "sampler_url": f"{url}/samplers/local",
        "models": ", ".join(offer.served),
        "pid": os.getpid(),
    }
