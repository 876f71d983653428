"""What an operation log reads and writes inside a transaction.

Every function that writes can be run a second time on top of a first one that reached the disk,
and then changes nothing: a transaction that failed may have been kept all the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from loops_core.errors import LoopsError
from loops_core.types.operation import ErrorBody
from loops_core.worker.entries import Appended, Cancelled, Outcome, StoredEntry
from loops_core.worker.lifecycle import FINAL, READ_ONLY, TRANSITIONS, EntryState, EntryStep
from loops_core.worker.log_tables import (
    BODIES,
    ENTRIES,
    FLOOR,
    FORMAT,
    METADATA,
    RESULTS,
    SNAPSHOTS,
)

_FINISHING: Final = {EntryState.DONE: EntryStep.SUCCEED, EntryState.FAILED: EntryStep.FAIL}

# Statements of the path that every operation takes are built once: to build one costs as much as
# to run it. Their parameters carry names that are no columns, as SQLAlchemy asks in updates.

_WHERE_ID: Final = ENTRIES.c.operation_id == sa.bindparam("which")

_STORED: Final = sa.select(
    ENTRIES.c.sequence,
    ENTRIES.c.operation_id,
    ENTRIES.c.kind,
    ENTRIES.c.state,
    ENTRIES.c.started_s,
    ENTRIES.c.attempts,
    ENTRIES.c.num_bytes,
    BODIES.c.body,
    RESULTS.c.result,
).select_from(
    ENTRIES.outerjoin(BODIES, ENTRIES.c.sequence == BODIES.c.sequence).outerjoin(
        RESULTS, ENTRIES.c.sequence == RESULTS.c.sequence
    )
)

_OLDEST: Final = (
    _STORED.where(ENTRIES.c.state == sa.bindparam("state")).order_by(ENTRIES.c.sequence).limit(1)
)

_NEXT: Final = (
    _STORED.where(ENTRIES.c.state.in_([EntryState.RUNNING.value, EntryState.QUEUED.value]))
    .order_by(ENTRIES.c.state.desc(), ENTRIES.c.sequence)  # "running" stands behind "queued"
    .limit(1)
)

_FOUND: Final = (
    sa.select(
        ENTRIES.c.sequence,
        ENTRIES.c.kind,
        ENTRIES.c.state,
        ENTRIES.c.digest,
        ENTRIES.c.num_bytes,
        ENTRIES.c.finished_s,
        RESULTS.c.result,
        RESULTS.c.error,
    )
    .outerjoin_from(ENTRIES, RESULTS, ENTRIES.c.sequence == RESULTS.c.sequence)
    .where(_WHERE_ID)
)

_DIGEST: Final = sa.select(ENTRIES.c.digest).where(_WHERE_ID)

_ADD_ENTRY: Final = sa.insert(ENTRIES).returning(ENTRIES.c.sequence)

_ADD_BODY: Final = sa.insert(BODIES)

_DROP_BODY: Final = sa.delete(BODIES).where(BODIES.c.sequence == sa.bindparam("which"))

_PUT_RESULT: Final = sa.insert(RESULTS).prefix_with("OR REPLACE")

_MOVE: Final = sa.update(ENTRIES).where(
    ENTRIES.c.sequence == sa.bindparam("which"), ENTRIES.c.state == sa.bindparam("before")
)

_START: Final = _MOVE.values(
    state=sa.bindparam("after"), started_s=sa.bindparam("at_s"), attempts=ENTRIES.c.attempts + 1
)

_END: Final = _MOVE.values(state=sa.bindparam("after"), finished_s=sa.bindparam("at_s"))

_KEPT_BODIES: Final = sa.select(BODIES.c.sequence)


def make_tables(db: sa.Connection) -> int:
    """Return the database's format, after making the tables in an empty one."""
    version = int(db.exec_driver_sql("PRAGMA user_version").scalar_one())
    if version == 0 and not sa.inspect(db).get_table_names():
        METADATA.create_all(db)
        db.exec_driver_sql(f"PRAGMA user_version={FORMAT}")
        return FORMAT
    return version


def recall(db: sa.Connection, operation_id: str, digest: bytes) -> Appended | None:
    """Return what an append would answer if there is an entry of this id; None = there is none."""
    known = db.execute(_DIGEST, {"which": operation_id}).scalar()
    return None if known is None else Appended(is_new=False, is_same=known == digest)


def append(
    db: sa.Connection, operation_id: str, kind: str, digest: bytes, body: bytes, submitted_s: float
) -> Appended:
    """Add a queued entry, unless there is one of this id already."""
    if known := recall(db, operation_id, digest):
        return known
    columns = {
        "operation_id": operation_id,
        "kind": kind,
        "digest": digest,
        "num_bytes": len(body),
        "state": EntryState.QUEUED.value,
        "attempts": 0,
        "submitted_s": submitted_s,
    }
    sequence = db.execute(_ADD_ENTRY, columns).scalar_one()
    db.execute(_ADD_BODY, {"sequence": sequence, "body": body})
    return Appended(is_new=True, is_same=True)


def take(db: sa.Connection, started_s: float) -> StoredEntry | None:
    """Return the oldest entry that waits, running from now on.

    One that is running already comes first: it was taken by a run of this function whose answer
    never arrived.
    """
    row = db.execute(_NEXT).first()
    if row is None or row.state == EntryState.RUNNING.value:
        return None if row is None else _stored(row)
    _step(db, _START, row.sequence, EntryStep.START, started_s)
    return replace(_stored(row), started_s=started_s, attempts=row.attempts + 1)


def finish(db: sa.Connection, sequence: int, outcome: Outcome, *, keep_body: bool) -> None:
    """End the running entry.

    Raises:
        LoopsError: the entry is neither running nor has it ended in this way.
    """
    if not _step(db, _END, sequence, _FINISHING[outcome.state], outcome.finished_s):
        found = find(db, outcome.operation_id)
        if found is None or found.state != outcome.state:
            raise LoopsError(
                f"log entry {sequence} cannot become {outcome.state}: it is not running"
            )
        return
    _put_result(db, sequence, outcome)
    if not keep_body:
        db.execute(_DROP_BODY, {"which": sequence})


def cancel(db: sa.Connection, operation_id: str, outcome: Outcome) -> Cancelled | None:
    """End an entry that still waits with `outcome`; None = there is no such entry."""
    row = db.execute(_FOUND, {"which": operation_id}).first()
    if row is None:
        return None
    was_queued = _step(db, _END, row.sequence, EntryStep.CANCEL, outcome.finished_s)
    if was_queued:
        _put_result(db, row.sequence, outcome)
        db.execute(_DROP_BODY, {"which": row.sequence})
    return Cancelled(
        find(db, operation_id) or outcome, was_queued, row.num_bytes if was_queued else 0
    )


def requeue(db: sa.Connection, sequence: int) -> None:
    """Let an interrupted entry wait again, in its old place."""
    before, after = TRANSITIONS[EntryStep.INTERRUPT]
    db.execute(
        _MOVE.values(state=sa.bindparam("after")),
        {"which": sequence, "before": before.value, "after": after.value},
    )


def put_back(db: sa.Connection, sequence: int) -> None:
    """Let an entry wait again that was taken and never begun: it was no attempt."""
    before, after = TRANSITIONS[EntryStep.INTERRUPT]
    db.execute(
        _MOVE.values(state=sa.bindparam("after"), attempts=ENTRIES.c.attempts - 1),
        {"which": sequence, "before": before.value, "after": after.value},
    )


def find(db: sa.Connection, operation_id: str) -> Outcome | None:
    """Return what is known of the entry; None = nothing is."""
    row = db.execute(_FOUND, {"which": operation_id}).first()
    if row is None:
        return None
    return Outcome(
        operation_id=operation_id,
        kind=row.kind,
        state=EntryState(row.state),
        result=row.result,
        error=None if row.error is None else ErrorBody.model_validate_json(row.error),
        finished_s=row.finished_s,
    )


def floor(db: sa.Connection) -> int:
    """Return the sequence up to which bodies were dropped: replay can begin there or later."""
    return db.execute(sa.select(sa.func.coalesce(sa.func.max(FLOOR.c.sequence), 0))).scalar_one()


def next_to_replay(db: sa.Connection, after: int) -> StoredEntry | None:
    """Return the first entry behind `after` (floor or later) whose change has to be repeated."""
    row = db.execute(
        _STORED.where(
            ENTRIES.c.sequence > after,
            ENTRIES.c.state == EntryState.DONE.value,
            ENTRIES.c.kind.not_in([kind.value for kind in READ_ONLY]),
        )
        .order_by(ENTRIES.c.sequence)
        .limit(1)
    ).first()
    return None if row is None else _stored(row)


def interrupted(db: sa.Connection) -> StoredEntry | None:
    """Return the entry that was running when the last process ended; one runs at a time."""
    row = db.execute(_OLDEST, {"state": EntryState.RUNNING.value}).first()
    return None if row is None else _stored(row)


def count_queued(db: sa.Connection) -> tuple[int, int]:
    """Return how many entries wait, and the bytes of their bodies."""
    row = db.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(ENTRIES.c.num_bytes), 0)).where(
            ENTRIES.c.state == EntryState.QUEUED.value
        )
    ).one()
    return int(row[0]), int(row[1])


def add_snapshot(
    db: sa.Connection, sequence: int, num_bytes: int, taken_s: float, *, kept: int
) -> list[int]:
    """Record a snapshot, drop what no kept snapshot needs, and return the forgotten snapshots.

    The state before the first entry counts as a snapshot too: as long as fewer than `kept` others
    were taken, every body stays.
    """
    db.execute(
        sa.insert(SNAPSHOTS)
        .prefix_with("OR REPLACE")
        .values(sequence=sequence, num_bytes=num_bytes, taken_s=taken_s)
    )
    newest_first = sa.select(SNAPSHOTS.c.sequence).order_by(SNAPSHOTS.c.sequence.desc())
    known = list(db.execute(newest_first).scalars())
    if len(known) >= kept:
        oldest = known[kept - 1]
        db.execute(sa.delete(BODIES).where(BODIES.c.sequence <= oldest))
        db.execute(sa.insert(FLOOR).prefix_with("OR REPLACE").values(sequence=oldest))
        db.execute(sa.delete(FLOOR).where(FLOOR.c.sequence < oldest))
    db.execute(sa.delete(SNAPSHOTS).where(SNAPSHOTS.c.sequence.in_(known[kept:])))
    return known[kept:]


def expire(db: sa.Connection, *, results_before_s: float, keys_before_s: float) -> None:
    """Drop the results, then the rows, of entries that ended before these times.

    What a replay still needs stays: everything of an entry whose body is kept.
    """
    db.execute(
        sa.delete(RESULTS).where(
            RESULTS.c.finished_s <= results_before_s, RESULTS.c.sequence.not_in(_KEPT_BODIES)
        )
    )
    db.execute(
        sa.delete(ENTRIES).where(
            ENTRIES.c.finished_s <= keys_before_s,
            ENTRIES.c.state.in_([state.value for state in FINAL]),
            ENTRIES.c.sequence.not_in(_KEPT_BODIES),
        )
    )


def _step(
    db: sa.Connection, statement: sa.Update, sequence: int, step: EntryStep, at_s: float | None
) -> bool:
    """Return whether the entry was in the state before the step, and is now in the one after."""
    before, after = TRANSITIONS[step]
    values = {"which": sequence, "before": before.value, "after": after.value, "at_s": at_s}
    return db.execute(statement, values).rowcount == 1


def _put_result(db: sa.Connection, sequence: int, outcome: Outcome) -> None:
    db.execute(
        _PUT_RESULT,
        {
            "sequence": sequence,
            "result": outcome.result,
            "error": None if outcome.error is None else outcome.error.model_dump_json(),
            "finished_s": outcome.finished_s,
        },
    )


def _stored(row: sa.Row[*tuple[Any, ...]]) -> StoredEntry:
    return StoredEntry(
        sequence=row.sequence,
        operation_id=row.operation_id,
        kind=row.kind,
        body=row.body or b"",
        started_s=row.started_s or 0.0,
        attempts=row.attempts,
        num_bytes=row.num_bytes,
        result=row.result,
    )
