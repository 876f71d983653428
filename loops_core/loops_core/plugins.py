"""The installed plugins behind typed calls; the only caller of pluggy's hooks."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Self, final

import pluggy

from loops_core import hooks
from loops_core.errors import LoopsError, NotFoundError, PluginError
from loops_core.protocols import (
    Backend,
    BackendConfig,
    CheckpointStore,
    LossFunction,
    RunSpec,
    Transport,
)

_log = logging.getLogger(__name__)

_EXTRAS: Final = {"jax": "jax", "mock": "mock", "http": "http", "https": "http"}
"""The extra of `loops-framework` that brings a backend or a URL scheme."""


@final
class Plugins:
    """A set of plugins; made by a function and passed on, never global."""

    def __init__(self, manager: pluggy.PluginManager) -> None:
        """Wrap a manager that knows the hookspecs."""
        self._manager = manager

    @classmethod
    def load(cls, *, extra: Iterable[object] = ()) -> Self:
        """Return the installed plugins of the entry-point group `loops`, and the `extra` ones.

        Raises:
            PluginError: an installed plugin cannot be imported or has an unknown hook.
        """
        manager = pluggy.PluginManager(hooks.PROJECT)
        manager.add_hookspecs(hooks)
        for entry in importlib.metadata.entry_points(group=hooks.PROJECT):
            if manager.get_plugin(entry.name) is None:
                _register(manager, entry)
        for plugin in extra:
            manager.register(plugin)
        manager.check_pending()
        return cls(manager)

    def names(self) -> list[str]:
        """Return the plugins' names, sorted."""
        return sorted(name for name, plugin in self._manager.list_name_plugin() if plugin)

    def open_transport(self, url: str, *, api_key: str | None = None) -> Transport:
        """Return a transport for the URL.

        Raises:
            PluginError: no plugin knows the scheme; the message names the extra to install.
        """
        config = hooks.TransportConfig(plugins=self, api_key=api_key)
        transport: Transport | None = self._manager.hook.loops_transport(url=url, config=config)
        if transport is None:
            scheme = url.partition(":")[0]
            raise PluginError(_nobody("transport for URL scheme", scheme), field="base_url")
        return transport

    def open_backend(self, name: str, config: BackendConfig) -> Backend:
        """Return the backend of this name.

        Raises:
            PluginError: no plugin has it; the message names the extra to install.
        """
        backend: Backend | None = self._manager.hook.loops_backend(name=name, config=config)
        if backend is None:
            raise PluginError(_nobody("backend", name), field="base_url")
        return backend

    def resolve_model(self, base_model: str) -> Path:
        """Return the model's local directory.

        Raises:
            NotFoundError: no plugin resolves the name.
        """
        found: Any = self._manager.hook.loops_resolve_model(base_model=base_model)
        if found is None:
            raise NotFoundError(
                f"base_model {base_model!r} was not found: expected a local directory with "
                f"config.json, or a name that a plugin resolves, such as "
                f"{', '.join(self.model_names()) or '(none installed)'}",
                kind="model",
                name=base_model,
                field="base_model",
            )
        if not isinstance(found, Path):
            raise PluginError(f"loops_resolve_model must return a Path, not {type(found).__name__}")
        return found

    def model_names(self) -> list[str]:
        """Return the model names that plugins list, sorted."""
        answers: list[Any] = self._manager.hook.loops_model_names()
        return sorted({name for answer in answers for name in answer})

    def loss_functions(self) -> tuple[LossFunction, ...]:
        """Return the losses of all plugins.

        Raises:
            PluginError: two of them have one name.
        """
        answers: list[Any] = self._manager.hook.loops_loss_functions()
        losses = [loss for answer in answers for loss in answer]
        for position, loss in enumerate(losses):
            if not isinstance(loss, LossFunction):
                raise PluginError(f"a loss must be a LossFunction, not {type(loss).__name__}")
            if loss.name in (other.name for other in losses[:position]):
                raise PluginError(f"two plugins bring a loss named {loss.name!r}")
        return tuple(losses)

    def open_checkpoint_store(self, uri: str) -> CheckpointStore:
        """Return a store for the URI.

        Raises:
            PluginError: no plugin knows the scheme.
        """
        store: CheckpointStore | None = self._manager.hook.loops_checkpoint_store(uri=uri)
        if store is None:
            raise PluginError(_nobody("checkpoint store for", uri))
        return store

    def provision(self, run_spec: RunSpec, backend: Backend) -> Backend:
        """Return the backend on which the run lives: `backend`, unless a plugin says otherwise."""
        placed: Backend | None = self._manager.hook.loops_provision(
            run_spec=run_spec, backend=backend
        )
        return backend if placed is None else placed

    def run_opened(self, event: hooks.RunEvent) -> None:
        """Tell all observers."""
        self._manager.hook.loops_run_opened(event=event)

    def operation_submitted(self, event: hooks.OperationEvent) -> None:
        """Tell all observers; their failures are logged and go no further."""
        self._observe("loops_operation_submitted", event)

    def operation_finished(self, event: hooks.OperationEvent) -> None:
        """Tell all observers; their failures are logged and go no further."""
        self._observe("loops_operation_finished", event)

    def metrics(self, event: hooks.MetricsEvent) -> None:
        """Tell all observers; their failures are logged and go no further."""
        self._observe("loops_metrics", event)

    def checkpoint_saved(self, event: hooks.CheckpointEvent) -> None:
        """Tell all observers; their failures are logged and go no further."""
        self._observe("loops_checkpoint_saved", event)

    def run_closed(self, event: hooks.RunEvent) -> None:
        """Tell all observers; their failures are logged and go no further."""
        self._observe("loops_run_closed", event)

    def _observe(self, hook: str, event: object) -> None:
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            try:
                implementation.function(*[event for _ in implementation.argnames])
            except Exception:  # noqa: BLE001  # an observer's failure is not the operation's
                _log.exception("plugin %s failed in %s", implementation.plugin_name, hook)


def _register(manager: pluggy.PluginManager, entry: importlib.metadata.EntryPoint) -> None:
    try:
        manager.register(entry.load(), name=entry.name)
    except LoopsError:
        raise
    except (ImportError, AttributeError, pluggy.PluginValidationError, ValueError) as error:
        raise PluginError(
            f"plugin {entry.name!r} ({entry.value}) does not load: {error}"
        ) from error


def _nobody(what: str, name: str) -> str:
    extra = _EXTRAS.get(name)
    if extra is None:
        return f"no installed plugin brings a {what} {name!r}"
    return f"no installed plugin brings a {what} {name!r}: pip install 'loops-framework[{extra}]'"
