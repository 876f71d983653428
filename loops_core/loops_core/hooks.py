"""Every hook of Loops. A plugin implements those it needs, in the entry-point group `loops`.

Each docstring is a contract: when the hook is called, how often, and whether the first answer wins
or all are gathered. `loops_core.plugins` is the only caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pluggy

from loops_core.protocols import (
    Backend,
    BackendConfig,
    CheckpointStore,
    LossFunction,
    RunSpec,
    Transport,
)
from loops_core.types.checkpoint import CheckpointTarget
from loops_core.types.operation import OperationKind
from loops_core.types.training import WandbConfig

if TYPE_CHECKING:
    from loops_core.plugins import Plugins

PROJECT: Final = "loops"
"""The name of the plugin system and of its entry-point group."""

hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)
"""Marks a plugin's function as the implementation of the hook of its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportConfig:
    """What a transport is opened with.

    Attributes:
        plugins: the plugins of the client that opens it.
        api_key: the caller's key, where there is one; never logged.
    """

    plugins: Plugins
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """A training client was opened on a run, or closed.

    Attributes:
        run_id: the run; None where the service has none.
        client_id: unique to the client, to tell two clients of one run apart.
        base_model: the base model's name.
        lora_rank: the adapter's rank.
        wandb_config: what the user asked Weights & Biases to do.
    """

    run_id: str | None
    client_id: str
    base_model: str
    lora_rank: int
    wandb_config: WandbConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationEvent:
    """An operation was accepted by the service, or its result arrived.

    Attributes:
        run: the client and run it belongs to.
        kind: its name.
        operation_id: its handle.
        seconds: from submit to result; None in `loops_operation_submitted`.
        error: what it failed with; None while it runs and when it succeeded.
    """

    run: RunEvent
    kind: OperationKind
    operation_id: str
    seconds: float | None = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsEvent:
    """An operation's result brought metrics.

    Attributes:
        run: the client and run they belong to.
        kind: the operation that brought them.
        operation_id: its handle.
        metrics: finite numbers by name.
    """

    run: RunEvent
    kind: OperationKind
    operation_id: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointEvent:
    """A checkpoint was saved.

    Attributes:
        run: the client and run it belongs to.
        name: the name it was saved under.
        path: its `bt://` address.
        target: whom it is for.
    """

    run: RunEvent
    name: str
    path: str
    target: CheckpointTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that a plugin adds to `loops`.

    Attributes:
        name: what it is called by; two words, such as `bench protocol`, put it into a group.
        function: what is run: its parameters are its options, as Typer reads them, its docstring is
            its help.
    """

    name: str
    function: Callable[..., None]


@hookspec(firstresult=True)
def loops_transport(url: str, config: TransportConfig) -> Transport | None:
    """Return a transport for the URL's scheme, or None for a scheme of somebody else.

    Called once when a client is opened; the first transport wins.
    """


@hookspec(firstresult=True)
def loops_backend(name: str, config: BackendConfig) -> Backend | None:
    """Return the backend of this name, or None for a name of somebody else.

    Called once by the worker that will own the backend; the first one wins.
    """


@hookspec(firstresult=True)
def loops_resolve_model(base_model: str) -> Path | None:
    """Return a local directory with the model's config, weights and tokenizer, or None.

    Called by workers when a trainer or sampler is created and by clients for the tokenizer; may
    fetch and cache. The first directory wins; a name that nobody resolves is a `NotFoundError`.
    """


@hookspec
def loops_model_names() -> Sequence[str]:
    """Return names that the plugin's `loops_resolve_model` resolves, for listings and hints.

    Called whenever a service tells what it offers, or a name was not found; all are gathered.
    Quick: fetches nothing.
    """
    return ()


@hookspec
def loops_loss_functions() -> Sequence[LossFunction]:
    """Return losses to offer by name. Called once when a backend is opened; all are gathered.

    Two losses of one name are a `PluginError`.
    """
    return ()


@hookspec(firstresult=True)
def loops_checkpoint_store(uri: str) -> CheckpointStore | None:
    """Return a store for the URI's scheme, or None for a scheme of somebody else.

    Called once when a worker is opened; the first store wins.
    """


@hookspec
def loops_commands() -> Sequence[Command]:
    """Return commands to add to `loops`. Called once when `loops` starts; all are gathered.

    Quick: what a command needs is imported when it is run. Two commands of one name are a
    `PluginError`.
    """
    return ()


@hookspec(firstresult=True)
def loops_provision(run_spec: RunSpec, backend: Backend) -> Backend | None:
    """Return the backend on which to open this run's trainer, or None.

    Called once a run, before its trainer is opened. The first answer wins; without one the run
    lives where the worker is: on `backend` itself. A provisioner returns a backend of its own
    whose trainers live elsewhere and keep the same contract.
    """


@hookspec
def loops_run_opened(event: RunEvent) -> None:
    """Observe that a training client was opened. Called once a client, by all."""


@hookspec
def loops_operation_submitted(event: OperationEvent) -> None:
    """Observe that the service accepted an operation. Called once an operation, by all."""


@hookspec
def loops_operation_finished(event: OperationEvent) -> None:
    """Observe that an operation's result or error arrived. Called once an operation, by all."""


@hookspec
def loops_metrics(event: MetricsEvent) -> None:
    """Observe metrics. Called once for each result that has some, in order of arrival, by all."""


@hookspec
def loops_checkpoint_saved(event: CheckpointEvent) -> None:
    """Observe that a checkpoint was saved. Called once for each save, by all."""


@hookspec
def loops_run_closed(event: RunEvent) -> None:
    """Observe that a training client was closed; nothing of it follows. Called once, by all."""
