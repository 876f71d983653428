"""The hooks of the mock: the backend `mock`, its base models, and what a `Watch` sees."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Final

from loops_core.hooks import Command, RunEvent, TransportConfig, hookimpl
from loops_core.protocols import Backend, BackendConfig, Transport
from loops_mock.backend import MockBackend
from loops_mock.cassette.active import open_recorded, open_replayed
from loops_mock.config import ModelConfig
from loops_mock.shared import open_shared
from loops_mock.watching import active

MODEL_NAME: Final = re.compile(r"mock[A-Za-z0-9._-]{0,60}")
"""The base models that this plugin resolves; each name has weights of its own."""


@hookimpl
def loops_backend(name: str, config: BackendConfig) -> Backend | None:
    """Return the mock backend for the name `mock`."""
    return MockBackend(config) if name == "mock" else None


@hookimpl
def loops_commands() -> Sequence[Command]:
    """Return the commands of this distribution."""
    from loops_mock.cassette.commands import diff, show
    from loops_mock.conformance.command import conformance
    from loops_mock.simulation.command import simulation

    return [
        Command(name="bench simulation", function=simulation),
        Command(name="conformance", function=conformance),
        Command(name="cassette show", function=show),
        Command(name="cassette diff", function=diff),
    ]


@hookimpl(specname="loops_transport", tryfirst=True)
def play_cassette(url: str, config: TransportConfig) -> Transport | None:
    """Return a transport that answers from a cassette, for `cassette:PATH` and inside `replay`."""
    return open_replayed(url, config)


@hookimpl(specname="loops_transport", wrapper=True)
def record_cassette(
    url: str, config: TransportConfig
) -> Generator[None, Transport | None, Transport | None]:
    """Return the transport that others opened, wrapped inside `record`."""
    transport = yield
    return None if transport is None else open_recorded(transport, url, config)


@hookimpl
def loops_resolve_model(base_model: str) -> Path | None:
    """Return a directory with the config of a mock model, such as `mock-tiny`.

    It is kept below `LOOPS_CACHE_DIR`, or `~/.cache/loops`; its file appears whole or not at all.
    """
    if MODEL_NAME.fullmatch(base_model) is None:
        return None
    root = os.environ.get("LOOPS_CACHE_DIR") or Path.home() / ".cache" / "loops"
    model_dir = Path(root).expanduser().absolute() / "mock-models" / base_model
    text = ModelConfig(name=base_model).model_dump_json(indent=2).encode()
    _write_once(model_dir / "config.json", text)
    return model_dir


@hookimpl
def loops_model_names() -> Sequence[str]:
    """Return the name that documentation uses; any other that starts with `mock` is as good."""
    return ["mock-tiny"]


@hookimpl(specname="loops_transport")
def shared_transport(url: str, config: TransportConfig) -> Transport | None:
    """Return a transport to a service that the clients of one test share."""
    return open_shared(url, config)


@hookimpl(wrapper=True, tryfirst=True, specname="loops_transport")
def watched_transport(
    url: str, config: TransportConfig
) -> Generator[None, Transport | None, Transport | None]:
    """Let every open `Watch` see what goes over a new transport, whoever brings it."""
    del config
    transport = yield
    return None if transport is None else active.watched(transport, url)


@hookimpl
def loops_run_opened(event: RunEvent) -> None:
    """Tell every open `Watch`."""
    active.run_opened(event)


@hookimpl
def loops_run_closed(event: RunEvent) -> None:
    """Tell every open `Watch`."""
    active.run_closed(event)


def _write_once(path: Path, text: bytes) -> None:
    """Make `path` hold `text`, in one step for whoever reads it meanwhile."""
    try:
        if path.read_bytes() == text:
            return
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, part = tempfile.mkstemp(prefix=".config-", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    Path(part).replace(path)
