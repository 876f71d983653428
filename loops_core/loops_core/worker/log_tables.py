"""The tables of an operation log.

Bodies and results have tables of their own: they are large and go earlier than the entry, whose
short row stays as long as its idempotency key has to be recognised.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

FORMAT: Final = 1
"""The version of these tables, kept as the database's `user_version`."""

METADATA: Final = sa.MetaData()

ENTRIES: Final = sa.Table(
    "entries",
    METADATA,
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("operation_id", sa.String, nullable=False, unique=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("num_bytes", sa.Integer, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("submitted_s", sa.Float, nullable=False),
    sa.Column("started_s", sa.Float),
    sa.Column("finished_s", sa.Float, index=True),
    sa.Index("entries_by_state", "state", "sequence"),
    sqlite_autoincrement=True,  # a number is never used again, also when the newest rows are gone
)

BODIES: Final = sa.Table(
    "bodies",
    METADATA,
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

RESULTS: Final = sa.Table(
    "results",
    METADATA,
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("result", sa.LargeBinary),
    sa.Column("error", sa.String),
    sa.Column("finished_s", sa.Float, nullable=False, index=True),
)

SNAPSHOTS: Final = sa.Table(
    "snapshots",
    METADATA,
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("num_bytes", sa.Integer, nullable=False),
    sa.Column("taken_s", sa.Float, nullable=False),
)

FLOOR: Final = sa.Table(
    "floor",
    METADATA,
    sa.Column("sequence", sa.Integer, primary_key=True),
)
"""At most one row: the sequence up to which bodies were dropped behind a snapshot."""
