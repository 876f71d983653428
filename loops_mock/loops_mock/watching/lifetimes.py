"""Audits of lifetimes: results that nobody read, gradients that nobody applied, open clients."""

from __future__ import annotations

from loops_core.types.operation import OperationKind
from loops_mock.watching.events import (
    ServiceClosed,
    ServiceOpened,
    Submitted,
    TrainerClosed,
    TrainerOpened,
)
from loops_mock.watching.finding import Finding, Mistake
from loops_mock.watching.program import LOADS, Program


def futures_not_read(program: Program) -> list[Finding]:
    """Return a finding for each operation whose outcome was never read.

    A future counts as read once its outcome has been fetched: by `result()`, `exception()`,
    `await`, a `done()` that was true, or a callback.
    """
    return [
        _about(
            event,
            Mistake.FUTURE_NOT_READ,
            f"nobody read the result of {event.name} ({event.where}), so its error would go "
            "unnoticed: call result() on its future, or await it",
        )
        for event in program.events
        if isinstance(event, Submitted) and event.operation_id not in program.outcomes
    ]


def gradients_not_applied(program: Program) -> list[Finding]:
    """Return a finding for each `forward_backward` whose gradients reached no optimizer step."""
    findings: list[Finding] = []
    for operations in program.operations.values():
        pending: list[Submitted] = []
        for operation in operations:
            if operation.kind is OperationKind.FORWARD_BACKWARD:
                pending.append(operation)
            elif operation.kind is OperationKind.OPTIM_STEP:
                pending.clear()
            elif operation.kind in LOADS:
                end = f"were thrown away by {operation.name} ({operation.where})"
                findings += [_unapplied(each, end) for each in pending]
                pending.clear()
        findings += [_unapplied(each, "were never applied") for each in pending]
    return findings


def clients_not_closed(program: Program, *, trainers: bool = False) -> list[Finding]:
    """Return a finding for each client that is still open.

    What was opened for the code under test need not be closed by it. Closing a ServiceClient closes
    the training clients that it made.

    Args:
        program: what was seen.
        trainers: whether open training clients of open services count by themselves.
    """
    closed = {event.service for event in program.events if isinstance(event, ServiceClosed)}
    ended = {event.client_id for event in program.events if isinstance(event, TrainerClosed)}
    findings: list[Finding] = []
    for event in program.events:
        if not isinstance(event, ServiceOpened | TrainerOpened) or event.is_lent:
            continue
        if event.service in closed:
            continue
        if isinstance(event, ServiceOpened):
            findings.append(_left_open(event, "service", f"the client of {event.url}"))
        elif trainers and event.client_id not in ended:
            what = f"the TrainingClient of run {event.run_id}"
            findings.append(_left_open(event, "trainer", what))
    return findings


def _left_open(event: ServiceOpened | TrainerOpened, kind: str, what: str) -> Finding:
    return Finding(
        mistake=Mistake.CLIENT_NOT_CLOSED,
        operation=kind,
        position=event.number,
        place=event.place,
        message=f"{what} ({event.where}) was never closed: open it in a `with` block, or call "
        "close()",
    )


def _unapplied(operation: Submitted, end: str) -> Finding:
    return _about(
        operation,
        Mistake.GRADIENT_NOT_APPLIED,
        f"the gradients of {operation.name} ({operation.where}) {end}: call optim_step after it, "
        "or use forward where no gradients are wanted",
    )


def _about(operation: Submitted, mistake: Mistake, message: str) -> Finding:
    return Finding(
        mistake=mistake,
        operation=operation.kind.value,
        position=operation.number,
        place=operation.place,
        message=message,
    )
