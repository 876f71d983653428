"""A backend with one fault: the mock, one of whose trainer's methods is another function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from loops_core.hooks import hookimpl
from loops_core.protocols import Backend, BackendConfig, TrainerSpec
from loops_mock.backend import MockBackend
from loops_mock.contract.target import Target

Fault = Callable[..., Any]
"""Is called with the trainer and the method's arguments."""


class FaultyTrainer:
    """Hands everything to a trainer but for what is faulty."""

    def __init__(self, inner: Any, faults: Mapping[str, Fault]) -> None:
        self._inner = inner
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        if name in self._faults:
            return functools.partial(self._faults[name], self._inner)
        return getattr(self._inner, name)


class FaultyBackend:
    """The mock backend whose trainers are faulty."""

    def __init__(self, config: BackendConfig, faults: Mapping[str, Fault]) -> None:
        self._inner = MockBackend(config)
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def open_trainer(self, spec: TrainerSpec) -> Any:
        return FaultyTrainer(self._inner.open_trainer(spec), self._faults)


class FaultyPlugin:
    """Brings the backend `faulty`."""

    def __init__(self, faults: Mapping[str, Fault]) -> None:
        self._faults = faults

    @hookimpl
    def loops_backend(self, name: str, config: BackendConfig) -> Backend | None:
        backend: Any = FaultyBackend(config, self._faults)
        return backend if name == "faulty" else None


def open_faulty(**faults: Fault) -> Target:
    """Return a service in process with these faults."""
    url = "inproc:faulty?data_dir=:memory:"
    return Target(url, base_model="mock-tiny", plugins=[FaultyPlugin(faults)])
