"""What a correct queue does, as a small program: entries, and the rules for their results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from loops_core.types.base import WireModel
from loops_core.types.operation import OperationBody, OperationKind, OperationStatus
from loops_core.types.training import (
    ForwardBackwardOutput,
    LoadWeightsResponse,
    SaveWeightsResponse,
)

Operation = tuple[OperationKind, OperationBody]


@dataclass(slots=True)
class ModelEntry:
    """An accepted entry.

    Attributes:
        operation_id: its handle, which is its key.
        operation: what was submitted.
        cancelled: whether it was cancelled.
        ended_s: when it ended; None while it waits.
        answer: its result, or the class of its error.
    """

    operation_id: str
    operation: Operation
    cancelled: bool = False
    ended_s: float | None = None
    answer: WireModel | str | None = None


@final
@dataclass(slots=True)
class QueueModel:
    """The accepted entries in order of arrival, and the state that they lead to.

    Attributes:
        results_kept_s: how long a result reads.
        entries: every accepted entry by its id, in order of arrival.
        names: the state after the entries that have ended.
    """

    results_kept_s: float
    entries: dict[str, ModelEntry] = field(default_factory=dict[str, ModelEntry])
    names: list[str] = field(default_factory=list[str])

    def waiting(self) -> list[ModelEntry]:
        """Return the entries that have not ended, the one that runs first."""
        return [entry for entry in self.entries.values() if entry.ended_s is None]

    def accept(self, operation_id: str, operation: Operation) -> None:
        """Note a new entry."""
        self.entries[operation_id] = ModelEntry(operation_id, operation)

    def run_next(self, now_s: float) -> ModelEntry:
        """End the oldest entry as the toy machine does."""
        entry = self.waiting()[0]
        kind, body = entry.operation
        entry.ended_s = now_s
        entry.answer = self._apply(kind, body)
        return entry

    def cancel(self, operation_id: str, now_s: float) -> bool:
        """Cancel an entry that waits behind the one that runs; return whether it never runs."""
        entry = self.entries[operation_id]
        if entry in self.waiting()[1:]:
            entry.cancelled, entry.ended_s = True, now_s
            entry.answer = "OperationCancelledError"
        return entry.cancelled

    def has_expired(self, operation_id: str, now_s: float) -> bool:
        """Return whether the entry's result can no longer be read."""
        ended_s = self.entries[operation_id].ended_s
        return ended_s is not None and now_s >= ended_s + self.results_kept_s

    def check(self, operation_id: str, status: OperationStatus) -> None:
        """Check what a poll of an entry answered."""
        answer = self.entries[operation_id].answer
        if answer is None:
            assert status == OperationStatus(status="pending")
        elif isinstance(answer, str):
            assert (status.status, status.error_class) == ("error", answer)
            assert status.error_body is not None
            assert status.error_body.fields["operation_id"] == operation_id
        else:
            kind, _ = self.entries[operation_id].operation
            assert status == OperationStatus(status="done", operation=kind, result=answer)

    def _apply(self, kind: OperationKind, body: OperationBody) -> WireModel | str:
        if kind is OperationKind.FORWARD:
            return ForwardBackwardOutput(loss=float(len(self.names)))
        if kind is OperationKind.LOAD_STATE:
            self.names.append(str(getattr(body, "path", "")))
            return LoadWeightsResponse(step=len(self.names))
        name = str(getattr(body, "name", ""))
        if name.startswith("bad"):
            return "UsageError"
        if name.startswith("odd"):
            return "RuntimeError"
        self.names.append(name)
        return SaveWeightsResponse(mode="toy", path=f"{len(self.names)}:{name}")
