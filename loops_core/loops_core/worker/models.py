"""The base models that a worker has open: one sampler engine each, and where their files lie."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import final

from loops_core.clock import Clock
from loops_core.errors import NotFoundError
from loops_core.plugins import Plugins
from loops_core.protocols import Backend, RunSpec, SamplerSpec, Trainer, TrainerSpec
from loops_core.worker.engine import SamplerEngine
from loops_core.worker.records import RunRecord
from loops_core.worker.turning import THREADS, Turner


@final
class Models:
    """Opens trainers and sampler engines; engines are shared by all runs of a base model."""

    def __init__(
        self,
        backend: Backend,
        plugins: Plugins,
        clock: Clock,
        *,
        served: Mapping[str, str] | None = None,
        turner: Turner = THREADS,
    ) -> None:
        """Use the backend, and the plugins that resolve names and place runs.

        Args:
            backend: opens trainers and samplers.
            plugins: resolve names, and place runs.
            clock: where time comes from.
            served: the models on offer by name, each with what plugins resolve; None = whatever
                they resolve.
            turner: turns the loops of samplers.
        """
        self._served = served
        self._backend = backend
        self._plugins = plugins
        self._clock = clock
        self._turner = turner
        self._lock = threading.Lock()
        self._engines: dict[str, SamplerEngine] = {}

    @property
    def backend_name(self) -> str:
        """Return the backend's name."""
        return self._backend.name

    def directory(self, base_model: str) -> Path:
        """Return the model's local directory; raises `NotFoundError`."""
        if self._served is None:
            return self._plugins.resolve_model(base_model)
        if base_model not in self._served:
            raise NotFoundError(
                f"base_model {base_model!r} is not served here: expected one of "
                f"{', '.join(self._served)}",
                kind="model",
                name=base_model,
                field="base_model",
            )
        return self._plugins.resolve_model(self._served[base_model])

    def names(self) -> list[str]:
        """Return the models on offer by name."""
        return self._plugins.model_names() if self._served is None else list(self._served)

    def max_seq_len(self, base_model: str) -> int | None:
        """Return the most positions of the model's context, where its engine is open."""
        with self._lock:
            engine = self._engines.get(base_model)
        return None if engine is None else engine.describe().max_seq_len

    def open_trainer(self, run: RunRecord) -> Trainer:
        """Return a new trainer for the run; raises as `Backend.open_trainer` does."""
        spec = TrainerSpec(
            base_model=run.base_model,
            model_dir=self.directory(run.base_model),
            max_seq_len=run.max_seq_len,
        )
        run_spec = RunSpec(run_id=run.id, backend=self._backend.name, trainer=spec)
        return self._plugins.provision(run_spec, self._backend).open_trainer(spec)

    def engine(self, base_model: str) -> SamplerEngine:
        """Return the base model's engine, started on first use."""
        with self._lock:
            engine = self._engines.get(base_model)
            if engine is None:
                spec = SamplerSpec(base_model=base_model, model_dir=self.directory(base_model))
                sampler = self._backend.open_sampler(spec)
                engine = SamplerEngine(sampler, self._clock, name=base_model, turner=self._turner)
                self._engines[base_model] = engine
            return engine

    def published(self, base_model: str) -> None:
        """Tell the base model's engine, if there is one, that newer weights answer."""
        with self._lock:
            engine = self._engines.get(base_model)
        if engine is not None:
            engine.published()

    def close(self) -> None:
        """Close the engines and the backend."""
        with self._lock:
            engines, self._engines = list(self._engines.values()), {}
        for engine in engines:
            engine.close()
        self._backend.close()
