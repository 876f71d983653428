"""The installed plugins behind typed calls; the only caller of pluggy's hooks."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar, cast, final

import pluggy

from loops_core import hooks
from loops_core.errors import NotFoundError, PluginError
from loops_core.protocols import (
    Backend,
    BackendConfig,
    CheckpointStore,
    LossFunction,
    RunSpec,
    Transport,
)

_log = logging.getLogger(__name__)

_BACKEND_EXTRAS: Final = {"jax": "jax", "mock": "mock"}
_SCHEME_EXTRAS: Final = {"http": "http", "https": "http", "local": "http"}
"""The extra of `loops-framework` that brings a backend, or a URL scheme."""

ItemT = TypeVar("ItemT")


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
            PluginError: an installed plugin cannot be imported, two have one name, or a plugin has
                an unknown hook or a known one with other arguments.
        """
        manager = pluggy.PluginManager(hooks.PROJECT)
        manager.add_hookspecs(hooks)
        for entry in importlib.metadata.entry_points(group=hooks.PROJECT):
            _register(manager, _import(entry), entry.name)
        for plugin in extra:
            _register(manager, plugin, None)
        _check_hooks(manager)
        return cls(manager)

    def including(self, extra: Iterable[object]) -> Self:
        """Return these plugins and the `extra` ones; what is installed is not looked up again.

        Raises:
            PluginError: as `load` says, of an extra one.
        """
        manager = pluggy.PluginManager(hooks.PROJECT)
        manager.add_hookspecs(hooks)
        for name, plugin in self._manager.list_name_plugin():
            manager.register(plugin, name=name)
        for plugin in extra:
            _register(manager, plugin, None)
        _check_hooks(manager)
        return type(self)(manager)

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
            scheme = url.partition(":")[0].lower() if ":" in url else ""
            hint = _to_install(_SCHEME_EXTRAS.get(scheme)) or (
                "expected a URL such as 'inproc:jax' or 'https://host/path'"
            )
            message = f"no installed plugin brings a transport for base_url {url!r}; {hint}"
            raise PluginError(message, field="base_url")
        return _check_answer("loops_transport", transport, "send")

    def open_backend(self, name: str, config: BackendConfig) -> Backend:
        """Return the backend of this name.

        Raises:
            PluginError: no plugin has it; the message names the extra to install.
        """
        backend: Backend | None = self._manager.hook.loops_backend(name=name, config=config)
        if backend is None:
            hint = _to_install(_BACKEND_EXTRAS.get(name)) or (
                "expected 'jax', 'mock', or the name that an installed plugin answers to"
            )
            message = f"no installed plugin brings a backend {name!r}; {hint}"
            raise PluginError(message, field="base_url")
        return _check_answer("loops_backend", backend, "open_trainer")

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
        return sorted(set(self._gather("loops_model_names", str)))

    def loss_functions(self) -> tuple[LossFunction, ...]:
        """Return the losses of all plugins.

        Raises:
            PluginError: two of them have one name.
        """
        losses = self._gather("loops_loss_functions", LossFunction)
        for position, loss in enumerate(losses):
            if loss.name in (other.name for other in losses[:position]):
                raise PluginError(
                    f"two plugins bring a loss named {loss.name!r}; expected one; remove a plugin"
                )
        return tuple(losses)

    def commands(self) -> list[hooks.Command]:
        """Return the commands that plugins add to `loops`.

        Raises:
            PluginError: two of them have one name.
        """
        commands = self._gather("loops_commands", hooks.Command)
        for position, command in enumerate(commands):
            if command.name in (other.name for other in commands[:position]):
                raise PluginError(
                    f"two plugins bring a command {command.name!r}; expected one; remove a plugin"
                )
        return commands

    def open_checkpoint_store(self, uri: str) -> CheckpointStore:
        """Return a store for the URI.

        Raises:
            PluginError: no plugin knows the scheme.
        """
        store: CheckpointStore | None = self._manager.hook.loops_checkpoint_store(uri=uri)
        if store is None:
            raise PluginError(
                f"no installed plugin brings a checkpoint store for {uri!r}; expected a URI whose "
                "scheme a plugin knows"
            )
        return _check_answer("loops_checkpoint_store", store, "stage")

    def provision(self, run_spec: RunSpec, backend: Backend) -> Backend:
        """Return the backend on which the run lives: `backend`, unless a plugin says otherwise."""
        placed: Backend | None = self._manager.hook.loops_provision(
            run_spec=run_spec, backend=backend
        )
        if placed is None:
            return backend
        return _check_answer("loops_provision", placed, "open_trainer")

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

    def _gather(self, hook: str, kind: type[ItemT]) -> list[ItemT]:
        gathered: list[ItemT] = []
        for answer in cast("list[object]", getattr(self._manager.hook, hook)()):
            if not isinstance(answer, Sequence) or isinstance(answer, str):
                raise PluginError(f"{hook} must return a sequence, not {type(answer).__name__}")
            for item in cast("Sequence[object]", answer):
                if not isinstance(item, kind):
                    found = type(item).__name__
                    raise PluginError(f"{hook} must return {kind.__name__} values, not {found}")
                gathered.append(item)
        return gathered

    def _observe(self, hook: str, event: object) -> None:
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            try:
                implementation.function(*[event for _ in implementation.argnames])
            except Exception:  # noqa: BLE001  # an observer's failure is not the operation's
                _log.exception("plugin %s failed in %s", implementation.plugin_name, hook)


def _import(entry: importlib.metadata.EntryPoint) -> object:
    try:
        return entry.load()
    except Exception as error:
        # Whatever somebody else's module raises, the user has to learn whose it was.
        raise PluginError(
            f"plugin {entry.name!r} ({entry.value}) does not load: {error!r}; expected a module "
            "that can be imported; reinstall it or remove it"
        ) from error


def _check_hooks(manager: pluggy.PluginManager) -> None:
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"a plugin has a hook that Loops does not: {error}") from error


def _register(manager: pluggy.PluginManager, plugin: object, name: str | None) -> None:
    other: object = None if name is None else manager.get_plugin(name)
    if other is not None:
        raise PluginError(f"two plugins are named {name!r}: {other!r} and {plugin!r}; remove one")
    try:
        manager.register(plugin, name=name)
    except (pluggy.PluginValidationError, ValueError) as error:
        raise PluginError(f"plugin {name or plugin!r} cannot be registered: {error}") from error
    _refuse_wrappers(manager, plugin)


def _refuse_wrappers(manager: pluggy.PluginManager, plugin: object) -> None:
    """Observers are called one by one, so that one's failure stays its own: nothing wraps them."""
    for caller in manager.get_hookcallers(plugin) or ():
        is_observer = caller.spec is not None and "event" in caller.spec.argnames
        for hook in caller.get_hookimpls() if is_observer else ():
            if hook.plugin is plugin and (hook.wrapper or hook.hookwrapper):
                raise PluginError(f"{plugin!r} wraps {caller.name}; expected a plain observer")


def _check_answer(hook: str, answer: ItemT, method: str) -> ItemT:
    """Return a hook's answer, once it has a method of the protocol that was promised."""
    if not callable(getattr(answer, method, None)):
        found = type(answer).__name__
        raise PluginError(f"{hook} must return an object with {method}(), not {found}")
    return answer


def _to_install(extra: str | None) -> str:
    return "" if extra is None else f"pip install 'loops-framework[{extra}]'"
