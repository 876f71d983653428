"""Opening a service: a backend, a store and records in one data directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from loops_core.clock import SystemClock
from loops_core.plugins import Plugins
from loops_core.protocols import BackendConfig
from loops_core.worker.queue_settings import QueueSettings
from loops_core.worker.service import Service, ServiceParts

CHECKPOINTS: Final = "checkpoints"
"""The folder of the data directory that holds checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """What a service is opened with.

    Attributes:
        backend: the backend's name.
        backend_options: its own options by name.
        files: where checkpoints are kept.
        directory: where logs and records are kept; None = in memory.
        records_url: an SQLAlchemy URL for the records; None = a file in `directory`.
        served: the models on offer by name, each with what plugins resolve; None = all of them.
        local_paths: whether `load_state` may read directories of this machine.
        queue: the bounds of each run's queue.
    """

    backend: str
    files: Path
    directory: Path | None
    backend_options: Mapping[str, str] = field(default_factory=dict[str, str])
    records_url: str | None = None
    served: Mapping[str, str] | None = None
    local_paths: bool = True
    queue: QueueSettings = field(default_factory=QueueSettings)


def open_service(plugins: Plugins, options: ServiceOptions) -> Service:
    """Return a service that its caller has to close.

    Raises:
        PluginError: no installed plugin brings the backend.
        UsageError: an option is wrong.
    """
    config = BackendConfig(losses=plugins.loss_functions(), options=options.backend_options)
    return Service(
        ServiceParts(
            backend=plugins.open_backend(options.backend, config),
            plugins=plugins,
            store=plugins.open_checkpoint_store((options.files / CHECKPOINTS).as_uri()),
            directory=options.directory,
            clock=SystemClock(),
            records_url=options.records_url,
            served=options.served,
            local_paths=options.local_paths,
            queue=options.queue,
        )
    )
