"""What observers are told of a training client: each thing once, whichever path it arrived on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, TypeVar, final

from loops_core.client.polling import OperationRef, Outcome
from loops_core.hooks import CheckpointEvent, MetricsEvent, OperationEvent, RunEvent
from loops_core.plugins import Plugins
from loops_core.types.base import WireModel
from loops_core.types.checkpoint import CheckpointTarget
from loops_core.types.operation import OperationKind
from loops_core.types.training import (
    ForwardBackwardOutput,
    OptimStepResponse,
    SaveWeightsResponse,
)

ModelT = TypeVar("ModelT", bound=WireModel)

_TARGETS: Final = {
    OperationKind.SAVE_STATE: CheckpointTarget.TRAINER,
    OperationKind.SAVE_WEIGHTS_FOR_SAMPLER: CheckpointTarget.SAMPLER,
}


@final
class Announcer:
    """Tells all observers what happens to one client's run."""

    def __init__(self, plugins: Plugins, run: RunEvent) -> None:
        self._plugins = plugins
        self._run = run

    def opened(self) -> None:
        """Tell that the client was opened; an observer's error goes to the caller."""
        self._plugins.run_opened(self._run)

    def closed(self) -> None:
        """Tell that the client was closed."""
        self._plugins.run_closed(self._run)

    def submitted(self, ref: OperationRef[ModelT]) -> None:
        """Tell that the service accepted an operation."""
        event = OperationEvent(run=self._run, kind=ref.kind, operation_id=ref.operation_id)
        self._plugins.operation_submitted(event)

    def finished(
        self, ref: OperationRef[ModelT], outcome: Outcome[ModelT], *, seconds: float
    ) -> None:
        """Tell that a result or an error arrived."""
        event = OperationEvent(
            run=self._run,
            kind=ref.kind,
            operation_id=ref.operation_id,
            seconds=seconds,
            error=outcome.error,
        )
        self._plugins.operation_finished(event)

    def saved(self, kind: OperationKind, name: str, path: str) -> None:
        """Tell that a checkpoint was saved."""
        event = CheckpointEvent(run=self._run, name=name, path=path, target=_TARGETS[kind])
        self._plugins.checkpoint_saved(event)

    def measured(self, kind: OperationKind, operation_id: str, result: WireModel) -> None:
        """Tell of the metrics of a result that has some."""
        metrics = metrics_of(result)
        if metrics:
            event = MetricsEvent(
                run=self._run, kind=kind, operation_id=operation_id, metrics=metrics
            )
            self._plugins.metrics(event)


def metrics_of(result: WireModel) -> Mapping[str, float]:
    """Return the finite numbers of a result by name; the loss of a pass is one of them."""
    match result:
        case ForwardBackwardOutput():
            metrics = {"loss": result.loss, **result.metrics}
        case OptimStepResponse():
            metrics = result.metrics or {}
        case _:
            metrics = {}
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def version_of(result: WireModel | None) -> int | None:
    """Return the policy version that a save published, if it did."""
    return result.version if isinstance(result, SaveWeightsResponse) else None
