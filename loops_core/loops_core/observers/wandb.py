"""Weights & Biases as an observer: one W&B run for each client that has a `wandb_config`.

Passes are logged under `forward_backward/` and optimizer steps under `optim_step/`, against `step`,
the optimizer's own count: a pass is logged with the step that its gradients go into.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from loops_core.errors import UnsupportedError, UsageError
from loops_core.hooks import MetricsEvent, RunEvent, hookimpl
from loops_core.types.operation import OperationKind

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

_LOGGED: Final = (OperationKind.FORWARD_BACKWARD, OperationKind.OPTIM_STEP)
_STEP: Final = "step"


class _Log:
    """One client's W&B run, and the last optimizer step that was seen."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._step = 0
        run.define_metric(_STEP, hidden=True)
        for kind in _LOGGED:
            run.define_metric(f"{kind.value}/*", step_metric=_STEP)

    def add(self, event: MetricsEvent) -> None:
        """Log one result's metrics as one row."""
        row: dict[str, float] = {
            f"{event.kind.value}/{name}": value for name, value in event.metrics.items()
        }
        with self._lock:
            if event.kind is OperationKind.OPTIM_STEP:
                self._step = int(event.metrics.get("step", self._step + 1))
                row[_STEP] = self._step
            else:
                row[_STEP] = self._step + 1
            self._run.log(row)

    def finish(self) -> None:
        """Write everything out and end the W&B run."""
        with self._lock:
            self._run.finish()


_logs: Final[dict[str, _Log]] = {}
"""The open W&B runs by `client_id`, which no two clients share."""


@hookimpl
def loops_run_opened(event: RunEvent) -> None:
    """Start a W&B run if the client wants one.

    Raises:
        UnsupportedError: wandb is not installed.
        UsageError: wandb refuses to start a run.
    """
    if event.wandb_config is None:
        return
    try:
        import wandb
    except ImportError as error:
        raise UnsupportedError(
            "wandb_config needs wandb, which cannot be imported: pip install 'loops-core[wandb]'",
            field="wandb_config",
        ) from error
    config = {
        "base_model": event.base_model,
        "lora_rank": event.lora_rank,
        "run_id": event.run_id,
    }
    try:
        run = wandb.init(
            project=event.wandb_config.project,
            name=event.wandb_config.name,
            config=config,
            reinit="create_new",  # several clients log at once, and the user's own run goes on
        )
    except wandb.Error as error:
        raise UsageError(
            f"wandb_config: wandb could not start a run: {error}", field="wandb_config"
        ) from error
    _logs[event.client_id] = _Log(run)


@hookimpl
def loops_metrics(event: MetricsEvent) -> None:
    """Log the metrics of a pass or an optimizer step."""
    log = _logs.get(event.run.client_id)
    if log is not None and event.kind in _LOGGED:
        log.add(event)


@hookimpl
def loops_run_closed(event: RunEvent) -> None:
    """Finish the client's W&B run."""
    log = _logs.pop(event.client_id, None)
    if log is not None:
        log.finish()
