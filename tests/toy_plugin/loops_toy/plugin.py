"""The hooks: what Loops finds through the entry point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loops_core.hooks import MetricsEvent, OperationEvent, TransportConfig, hookimpl
from loops_core.protocols import Backend, BackendConfig, LossFunction, Transport
from loops_toy.backend import ToyBackend
from loops_toy.focal import FOCAL
from loops_toy.transport import CountingTransport

MODEL = Path(__file__).parent / "model"

seen: list[str] = []
"""What the observer was told, as text."""


@hookimpl
def loops_backend(name: str, config: BackendConfig) -> Backend | None:
    """Return the backend `toy`."""
    return ToyBackend(config) if name == "toy" else None


@hookimpl
def loops_transport(url: str, config: TransportConfig) -> Transport | None:
    """Return a transport that counts calls, for URLs such as `counted:inproc:toy`."""
    scheme, _, inner = url.partition(":")
    if scheme != "counted":
        return None
    return CountingTransport(config.plugins.open_transport(inner, api_key=config.api_key))


@hookimpl
def loops_loss_functions() -> Sequence[LossFunction]:
    """Return the focal loss."""
    return [FOCAL]


@hookimpl
def loops_resolve_model(base_model: str) -> Path | None:
    """Return the model that is part of this package, for the name `toy`."""
    return MODEL if base_model == "toy" else None


@hookimpl
def loops_model_names() -> Sequence[str]:
    """Return that name."""
    return ["toy"]


@hookimpl
def loops_operation_finished(event: OperationEvent) -> None:
    """Remember which operation finished."""
    seen.append(f"finished {event.kind}")


@hookimpl
def loops_metrics(event: MetricsEvent) -> None:
    """Remember the names of the metrics."""
    seen.append(f"metrics {event.kind}: {' '.join(sorted(event.metrics))}")
