"""What an entry of an operation log looks like: to a machine, in the log, and to those who wait."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, TypeVar

from loops_core.errors import CheckpointError, OperationCancelledError, error_to_body
from loops_core.types.base import WireModel
from loops_core.types.frames import unpack
from loops_core.types.operation import ErrorBody, ForwardBody, OperationBody, OperationKind
from loops_core.worker.lifecycle import EntryState

ModelT = TypeVar("ModelT", bound=WireModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """An entry as a machine sees it.

    Attributes:
        sequence: its place in the log; grows by one or more from entry to entry.
        operation_id: its handle.
        kind: which operation it is.
        body: what was submitted, read back from the log; its `seq_id` is None.
        started_s: when it was taken to be run, in seconds since 1970; in a replay, when it was
            taken the time that it succeeded.
    """

    sequence: int
    operation_id: str
    kind: OperationKind
    body: OperationBody
    started_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry:
    """An entry as it lies in the log, its body still packed; `kind` may be of another version."""

    sequence: int
    operation_id: str
    kind: str
    body: bytes
    started_s: float
    attempts: int
    num_bytes: int
    result: bytes | None = None


def read_packed(what: str, packed: bytes, value_type: type[ModelT]) -> ModelT:
    """Return a value that the log kept.

    Raises:
        CheckpointError: it is damaged, or was written by another version.
    """
    try:
        return unpack(packed, value_type)
    except ValueError as error:
        raise CheckpointError(
            f"{what} cannot be read from the log: {error}; a log is read by the version that wrote "
            "it: finish the run there, or go on from a saved checkpoint in a new run"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Where an entry is and, once it has ended, what it ended with.

    Attributes:
        operation_id: which entry.
        kind: its operation.
        state: where it is.
        result: the packed result of a done entry; None once it has expired.
        error: what a failed or cancelled entry ended with; None once it has expired.
        finished_s: when it ended, in seconds since 1970.
    """

    operation_id: str
    kind: str
    state: EntryState
    result: bytes | None = None
    error: ErrorBody | None = None
    finished_s: float | None = None


@dataclass(frozen=True, slots=True)
class Appended:
    """The answer to an append: whether the entry is new, or else whether it has the same body."""

    is_new: bool
    is_same: bool


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The answer to a cancel: the entry afterwards, and the bytes it no longer keeps waiting."""

    outcome: Outcome
    was_queued: bool
    num_bytes: int


_SMALL_POSITIONS: Final = 4096
"""Positions of a batch up to which an event loop checks and packs it itself."""


def is_small(body: WireModel | None) -> bool:
    """Tell whether to check and pack a body takes less time than to hand it to a thread."""
    if not isinstance(body, ForwardBody):
        return True
    return sum(datum.model_input.length for datum in body.data) <= _SMALL_POSITIONS


def make_cancelled(operation_id: str, *, finished_s: float) -> Outcome:
    """Return what an entry ends with that is cancelled while it waits."""
    error = OperationCancelledError(
        "the operation was cancelled before it ran", operation_id=operation_id
    )
    return Outcome(
        operation_id=operation_id,
        kind="",
        state=EntryState.CANCELLED,
        error=error_to_body(error),
        finished_s=finished_s,
    )


def body_digest(kind: OperationKind, body: bytes) -> bytes:
    """Return the SHA-256 under which two submits are the same.

    It covers the operation's name and the packed body without its `seq_id`: that is the client's
    own count, and the same call made again by a new client of the run may carry another one.
    """
    return hashlib.sha256(kind.value.encode() + b"\0" + body).digest()
