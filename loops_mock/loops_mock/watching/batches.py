"""The audit of batches: what was trained on more often than was meant; pure."""

from __future__ import annotations

from collections.abc import Iterator

from loops_core.types.operation import OperationKind
from loops_mock.watching.events import Submitted
from loops_mock.watching.finding import Finding, Mistake
from loops_mock.watching.program import LOADS, Program


def batches_twice(program: Program, *, epochs: int, data: bool = False) -> list[Finding]:
    """Return a finding for each pass over a batch that was trained on before.

    Two passes over the same batch, loss and settings are the same pass if no optimizer step lies
    between them: a repetition that should have carried the idempotency key of the first. With steps
    between, a batch may be trained on `epochs` times. After a load the run's past does not count,
    so that a resumed run may repeat what was lost.

    Args:
        program: what was seen.
        epochs: how often one batch may be trained on.
        data: judge each datum by itself, whatever batch it comes in.
    """
    findings: list[Finding] = []
    for operations in program.operations.values():
        seen: dict[object, list[tuple[int, Submitted]]] = {}
        steps = 0
        for operation in operations:
            if operation.kind is OperationKind.OPTIM_STEP:
                steps += 1
            elif operation.kind in LOADS:
                seen.clear()
            elif operation.kind is OperationKind.FORWARD_BACKWARD:
                for position, unit in _units(operation, data=data):
                    before = seen.setdefault(unit, [])
                    before.append((steps, operation))
                    what = "the same batch" if position is None else f"data[{position}]"
                    told = _repeated(before, what, epochs)
                    if told is not None:
                        findings.append(told)
    return findings


def _units(operation: Submitted, *, data: bool) -> Iterator[tuple[int | None, object]]:
    if not data:
        yield None, (operation.loss, tuple(each.digest for each in operation.examples))
        return
    for position, example in enumerate(operation.examples):
        yield position, (operation.loss, example.digest)


def _repeated(passes: list[tuple[int, Submitted]], what: str, epochs: int) -> Finding | None:
    steps, operation = passes[-1]
    same_step = next((each for step, each in passes[:-1] if step == steps), None)
    if same_step is not None:
        why = (
            f"trains on {what} as {same_step.name} ({same_step.where}) with no optim_step between, "
            "so its gradients count twice: repeat a call under the idempotency_key of the first"
        )
    elif len(passes) > epochs:
        first = passes[0][1]
        why = (
            f"trains on {what} for the {len(passes)}. time, first in {first.name} "
            f"({first.where}), and epochs={epochs} allows {epochs}: advance to the next batch, or "
            "raise epochs"
        )
    else:
        return None
    return Finding(
        mistake=Mistake.BATCH_TWICE,
        operation=operation.kind.value,
        position=operation.number,
        place=operation.place,
        message=f"{operation.name} ({operation.where}) {why}",
    )
