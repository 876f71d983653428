"""Findings: what is wrong with the calls that a program made, as values with a message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from loops_core.errors import UsageError
from loops_core.types.operation import OperationKind
from loops_mock.watching.places import Place


class Mistake(StrEnum):
    """The kinds of mistake that a watch finds."""

    FUTURE_NOT_READ = "future-not-read"
    GRADIENT_NOT_APPLIED = "gradient-not-applied"
    CLIENT_NOT_CLOSED = "client-not-closed"
    STALE_POLICY = "stale-policy"
    BATCH_TWICE = "batch-twice"
    SHIFTED_DATA = "shifted-data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One mistake.

    Attributes:
        mistake: its kind.
        operation: the name of the operation or call, such as `forward_backward` or `sample`.
        position: the number of the call among everything that was seen, from 1.
        place: the line of the program, where it could be told.
        message: what was wrong, where, and what to do.
    """

    mistake: Mistake
    operation: str
    position: int
    place: Place | None
    message: str

    def __str__(self) -> str:
        return f"{self.mistake}: {self.message}"


def allowed(findings: Iterable[Finding], allow: Sequence[str]) -> list[Finding]:
    """Return the findings that are not allowed.

    Args:
        findings: all of them, in any order.
        allow: kinds of mistake, such as `future-not-read`, or one kind for one operation, such as
            `future-not-read:optim_step`.

    Raises:
        UsageError: an entry names no mistake, or no operation.
    """
    for entry in [allow] if isinstance(allow, str) else allow:
        _check_allowance(entry)
    entries = frozenset([allow] if isinstance(allow, str) else allow)
    left = [
        finding
        for finding in findings
        if not entries & {finding.mistake.value, f"{finding.mistake}:{finding.operation}"}
    ]
    return sorted(left, key=lambda finding: finding.position)


def _check_allowance(entry: str) -> None:
    mistake, _, operation = entry.partition(":")
    if mistake not in {each.value for each in Mistake}:
        known = ", ".join(each.value for each in Mistake)
        raise UsageError(f"allow has {entry!r}; expected one of {known}", field="allow")
    operations = {*(kind.value for kind in OperationKind), "sample", "service", "trainer"}
    if operation and operation not in operations:
        raise UsageError(
            f"allow has {entry!r}; expected one of {', '.join(sorted(operations))} behind the "
            "colon",
            field="allow",
        )
